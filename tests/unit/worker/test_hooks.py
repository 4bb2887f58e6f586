"""Process hooks."""

from typing import Any

import pytest

from crew.errors import SettingsError
from crew.worker import hooks as hooks_module
from crew.worker.hooks import Hooks, on_process_start, on_process_stop


@pytest.fixture(autouse=True)
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    """Empty hooks, in place of those of this process."""
    hooks = Hooks()
    monkeypatch.setattr(hooks_module, "hooks", hooks)
    return hooks


def test_a_hook_decorator_returns_the_function_unchanged(hooks: Hooks) -> None:
    def connect() -> None: ...

    async def disconnect() -> None: ...

    assert on_process_start(connect) is connect
    assert on_process_stop(timeout=3)(disconnect) is disconnect
    assert [(hook.function, hook.timeout) for hook in hooks.start] == [(connect, 60.0)]
    assert [(hook.function, hook.timeout) for hook in hooks.stop] == [(disconnect, 3.0)]
    assert hooks.stop_timeout == 8.0
    hooks.check()


@pytest.mark.usefixtures("signals")
def test_start_hooks_run_in_order_and_stop_hooks_in_reverse(hooks: Hooks) -> None:
    ran: list[str] = []
    for name in ("a", "b"):
        on_process_start(lambda name=name: ran.append(f"start {name}"))
        on_process_stop(lambda name=name: ran.append(f"stop {name}"))
    assert hooks.run_start(None)
    hooks.run_stop(None)
    assert ran == ["start a", "start b", "stop b", "stop a"]


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("error", [ValueError("no database"), SystemExit(3), KeyboardInterrupt()])
def test_a_failing_start_hook_is_logged_and_the_next_ones_do_not_run(
    hooks: Hooks, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    ran: list[str] = []

    def connect() -> None:
        raise error

    on_process_start(connect)
    on_process_start(lambda: ran.append("next"))
    assert not hooks.run_start(None)
    assert ran == []
    (record,) = caplog.records
    assert "process start hook failed: hook=" in record.getMessage()
    assert "in connect" in record.getMessage()
    assert type(error).__name__ in record.getMessage()


@pytest.mark.usefixtures("signals")
def test_a_failing_stop_hook_does_not_keep_others_from_running(hooks: Hooks, caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []
    on_process_stop(lambda: ran.append("other"))
    on_process_stop(lambda: vars(hooks)["missing"])
    hooks.run_stop(None)
    assert ran == ["other"]
    assert "KeyError: 'missing'" in caplog.text


def test_a_hook_with_arguments_is_refused_at_start(hooks: Hooks) -> None:
    def connect(data: Any) -> None: ...

    on_process_start(connect)  # type: ignore[type-var]
    with pytest.raises(
        SettingsError, match=r"connect \(.*test_hooks\.py:\d+\) requires arguments, but hooks are called without any"
    ):
        hooks.check()


@pytest.mark.parametrize("timeout", [0, -1, "soon", float("nan")])
def test_an_invalid_hook_timeout_is_a_value_error(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        on_process_start(timeout=timeout)


def test_a_hook_that_is_no_function_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="must be a function"):
        on_process_stop()(3)  # type: ignore[type-var]
