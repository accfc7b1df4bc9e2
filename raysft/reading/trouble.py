"""What file systems complain about, as errors for people with the next step."""

from __future__ import annotations

import re

import pyarrow as pa

from raysft.errors import DataError, NotAllowed, NotFound, RaysftError

TROUBLES = (OSError, ValueError, pa.ArrowException)  # what Python's and pyarrow's file systems raise
DENIED = re.compile(
    r"access.?denied|access_?key|signature.?does.?not.?match|status 40[13]|forbidden|unauthori[sz]ed|credential"
    r"|permission.?denied|unauthenticated|authenticat|anonymous caller",
    re.IGNORECASE,
)
ABSENT = re.compile(r"no.?such|not.?found|status 404|does not exist", re.IGNORECASE)
UNREACHED = re.compile(r"network|curl|connect|resolve|time.?d? ?out|unavailable|retry|transport", re.IGNORECASE)
CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; ?anonymous=true reads a public bucket.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`; "
    "gs://anonymous@BUCKET/... reads a public bucket.",
    "abfs": "Run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; "
    "the role that reads is Storage Blob Data Reader.",
}


def trouble(shown: str, error: Exception) -> RaysftError:
    """One of our errors for what a file system raised about the path `shown`."""
    if isinstance(error, RaysftError):
        return error
    said = _said(error)
    family = next((each for each in CREDENTIALS if shown.startswith(each) and "://" in shown), "")
    if not family:
        return _local(shown, error, said)
    if isinstance(error, ValueError):  # not what the storage said, but what pyarrow says to the address
        return DataError(f"{shown}: cannot be read ({said})", "Look at the address and its options.")
    if DENIED.search(said):
        return NotAllowed(f"{shown}: the storage refuses ({said})", CREDENTIALS[family])
    if isinstance(error, FileNotFoundError) or ABSENT.search(said):
        return NotFound(f"{shown}: no such file or bucket ({said})", "Look at the spelling of bucket and path.")
    if UNREACHED.search(said):
        return NotFound(
            f"{shown}: the storage cannot be reached ({said})",
            "Look at the network, the region and endpoint_override (AWS_ENDPOINT_URL); or copy the file here.",
        )
    return DataError(f"{shown}: cannot be read ({said})", "Look at the address and its options, or copy the file here.")


def _local(shown: str, error: Exception, said: str) -> RaysftError:
    if isinstance(error, PermissionError):
        return NotAllowed(f"{shown}: no permission to read it", "Mend its permissions, or copy it.")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"{shown}: no such file", "Data paths are relative to the job file.")
    return DataError(f"{shown}: cannot be read ({said})", "Copy the file anew.")


def _said(error: Exception) -> str:
    """The first line of what was said, without the advice and the numbers that nobody needs."""
    text = getattr(error, "strerror", None) or str(error)
    line = (str(text).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 300 else line[:297] + "..."
