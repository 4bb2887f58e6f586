"""A gateway that drains, for test_drain.py: python drain_app.py"""

import asyncio
from functools import partial

from tornado.log import enable_pretty_logging
from tornado.web import Application

from crew import Client
from crew.gateway import routes, serve

DRAIN = 2.5  # seconds
LINGER = 0.3  # seconds

if __name__ == "__main__":
    enable_pretty_logging()
    crew = Client()
    serving = serve(
        Application(routes(crew)),
        crew,
        port=0,
        drain=DRAIN,
        linger=LINGER,
        on_listening=partial(print, flush=True),
    )
    asyncio.run(serving)
