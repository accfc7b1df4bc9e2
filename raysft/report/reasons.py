"""Why a row was left out, in words. The names are those of audit.json and rejected.parquet."""

from __future__ import annotations

REASONS = {
    # reading
    "bad_bytes": "bytes that do not decode",
    "malformed_csv": "malformed CSV",
    "malformed_json": "malformed JSON",
    "missing_tag": "a token without a tag",
    "not_utf8": "not UTF-8",
    "wrong_field_count": "wrong number of fields",
    # one row
    "answer_too_long": "answer longer than a text may be",
    "bad_labels": "labels that are no list",
    "bad_messages": "malformed messages",
    "bad_span": "malformed span",
    "bad_tag": "malformed tag",
    "bad_time": "malformed time",
    "blank_answer": "blank answer",
    "blank_text": "blank text",
    "blank_token": "blank token",
    "context_is_not_text": "context is not text",
    "group_is_not_text": "group is not text",
    "inside_without_begin": "an I- tag that follows no B-",
    "label_is_not_text": "label is not text",
    "missing_group": "no group",
    "missing_label": "no label",
    "missing_time": "no time",
    "no_answer": "no answer at the end",
    "prompt_too_long": "prompt and answer longer than a text may be",
    "sentence_too_long": "sentence too long",
    "several_labels": "several labels",
    "split_is_not_text": "part is not text",
    "tags_do_not_match": "more or fewer tags than tokens",
    "template_refuses": "refused by the chat template of the base",
    "text_is_not_text": "text is not text",
    "time_is_not_text": "time is not text",
    "unknown_role": "unknown role in messages",
    "unknown_split": "unknown part",
    # the corpus as a whole
    "conflicting_labels": "conflicting labels",
    "duplicate": "duplicate",
    "held_out_conflicts": "conflicting labels in a held-out file",
    "held_out_duplicates": "duplicate in a held-out file",
    "leakage": "also in a held-out file",
    "near_duplicate": "near-duplicate",
    "near_leakage": "almost in a held-out file",
    "personal_data": "personal data",
    "unseen_label": "label never seen in training",
    "validation_in_test": "also in the test file",
    "wrong_label": "likely wrong label",
}


def reason_name(reason: str) -> str:
    """A reason in plain words; one that is not known here as it is named."""
    return REASONS.get(reason, reason.replace("_", " "))
