"""The command line: words become a Spec, and a Spec a run. torch is imported inside commands only."""
