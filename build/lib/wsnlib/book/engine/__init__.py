"""What all chapters share: parameters, pages, claims and their verdicts, the scorecard; lazily imported."""
