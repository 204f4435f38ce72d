"""What a run folder says, as records; nothing here needs torch."""

from unetseg.runs.evidence import (
    AtIoU,
    Bin,
    CaseEvidence,
    Evidence,
    ObjectsFound,
    read_evidence,
)
from unetseg.runs.finding import RunCases, cases_of, find_runs
from unetseg.runs.record import Facts, Objects, RunRecord, is_run, read_run
from unetseg.runs.tables import CaseTable, History, mean_of

__all__ = [
    "AtIoU",
    "Bin",
    "CaseEvidence",
    "CaseTable",
    "Evidence",
    "Facts",
    "History",
    "Objects",
    "ObjectsFound",
    "RunCases",
    "RunRecord",
    "cases_of",
    "find_runs",
    "is_run",
    "mean_of",
    "read_evidence",
    "read_run",
]
