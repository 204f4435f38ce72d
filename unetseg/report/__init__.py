"""The pages about a run, a data set and scores, made of what unetseg.pages offers."""
