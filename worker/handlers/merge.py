"""Handler of merge jobs: a paper's human reviews, merged by a model into one by aspect."""

from __future__ import annotations

from db.claims import Claim
from worker.handlers.review import ReviewHandler


class MergeHandler(ReviewHandler):
    """Reads the human reviews that the job has as its input, and answers as a reviewer does."""

    def sentence_on_missing_text(self, claim: Claim) -> str:
        """A merge has no file: its input comes from the stored reviews."""
        return (
            f"The reviews of {claim.custom_id} were purged: import them again, then run "
            "`referee data merge` again."
        )
