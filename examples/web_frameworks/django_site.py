"""A Django site in one file: a view calls a task, another submits a job, a third polls it or cancels it.

python django_site.py runserver 8000
"""

import json
import uuid

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from crew import ExpirationError, TimeoutError, UnknownJob
from crew.client.blocking import Client
from crew.jobs import JobStatus

# A site of your own has its settings already, and Django's CsrfViewMiddleware.
settings.configure(SECRET_KEY="of this example only", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"])

client = Client()  # connects with its first call; each process that the server forks gets its own connections


@require_GET
def add(request: HttpRequest) -> JsonResponse:
    numbers = [float(number) for number in request.GET.getlist("n")]
    try:
        return JsonResponse({"sum": client.call("add", numbers, expiration=3).result()})
    except ExpirationError:
        return JsonResponse({"error": "no worker took the call in time"}, status=503)
    except TimeoutError:
        return JsonResponse({"error": "a worker took the call and could not finish"}, status=504)


@require_POST
def submit(request: HttpRequest) -> JsonResponse:
    job = client.submit("report", json.loads(request.body))
    return JsonResponse({"id": job.id}, status=202, headers={"Location": f"/reports/{job.id}/"})


@require_http_methods(["GET", "DELETE"])
def poll(request: HttpRequest, id: uuid.UUID) -> JsonResponse:
    job = client.job(str(id))
    try:
        if request.method == "DELETE":
            job.cancel()
        status = job.status()
        answer = {"status": status, "progress": job.progress()}
        if status is JobStatus.SUCCESS:
            answer["result"] = job.result()
        elif status.is_final:
            answer["error"] = str(job.error())
        return JsonResponse(answer)
    except UnknownJob as error:
        return JsonResponse({"error": str(error)}, status=404)


urlpatterns = [path("add/", add), path("reports/", submit), path("reports/<uuid:id>/", poll)]

if __name__ == "__main__":
    execute_from_command_line()
