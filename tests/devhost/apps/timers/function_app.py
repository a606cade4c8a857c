"""Timer functions that write down each run."""

import json
import os

import azure.functions as func

app = func.FunctionApp()


def note(name: str, timer: func.TimerRequest) -> None:
    with open(os.environ["TIMER_LOG"], "a", encoding="utf-8") as log:
        log.write(json.dumps({"name": name, "past_due": timer.past_due, "status": timer.schedule_status}) + "\n")


@app.timer_trigger(arg_name="timer", schedule="0 0 * * * *")
def hourly(timer: func.TimerRequest) -> None:
    note("hourly", timer)


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
async def at_start(timer: func.TimerRequest) -> None:
    note("at_start", timer)


@app.timer_trigger(arg_name="timer", schedule="0 30 * * * *")
@app.retry(strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:01")
def flaky(timer: func.TimerRequest, context: func.Context) -> None:
    note(f"flaky {context.retry_context.retry_count}", timer)
    raise RuntimeError("not today")
