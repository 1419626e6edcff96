"""Rolling origin over a log with times: train on what precedes a window, ask for the window, move on.

`schedule` says which windows, `running` trains and asks, `result` tells what was found.
"""

from leanrec.tasks.backtest.result import PICTURE, result_of, save
from leanrec.tasks.backtest.running import Backtest
from leanrec.tasks.backtest.schedule import Schedule, schedule_of, take_up

__all__ = ["PICTURE", "Backtest", "Schedule", "result_of", "save", "schedule_of", "take_up"]
