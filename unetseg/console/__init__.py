"""What a person sees in a terminal: progress and notes on stderr, tables on stdout."""

from unetseg.console.data import describe_division as describe_division
from unetseg.console.data import describe_fingerprint as describe_fingerprint
from unetseg.console.data import show_findings as show_findings
from unetseg.console.display import Display as Display
from unetseg.console.scores import print_object_scores as print_object_scores
from unetseg.console.scores import print_outcome as print_outcome
from unetseg.console.scores import print_scores as print_scores
from unetseg.console.tables import print_table as print_table
