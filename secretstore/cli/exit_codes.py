"""What a command ends with.

0    it was done
1    it failed
2    it was called wrongly: an argument, a setting, a key, a value or a grant breaks a rule
3    there is no such secret, or no such field in it
4    the stored version is not the expected one
5    a value or a data key does not open
6    PostgreSQL refused the login or the statement
7    PostgreSQL cannot be reached
8    a check found something wrong
130  Ctrl-C
"""

from enum import IntEnum

from secretstore import errors


class ExitCode(IntEnum):
    """See the module."""

    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    CANNOT_DECRYPT = 5
    DENIED = 6
    UNREACHABLE = 7
    CHECK_FAILED = 8
    INTERRUPTED = 130


_BY_ERROR: dict[type[errors.SecretStoreError], ExitCode] = {
    errors.ConfigurationError: ExitCode.USAGE,
    errors.InvalidSecretKeyError: ExitCode.USAGE,
    errors.InvalidSecretValueError: ExitCode.USAGE,
    errors.GrantError: ExitCode.USAGE,
    errors.SecretNotFoundError: ExitCode.NOT_FOUND,
    errors.VersionConflictError: ExitCode.CONFLICT,
    errors.DecryptionError: ExitCode.CANNOT_DECRYPT,
    errors.MasterKeyError: ExitCode.CANNOT_DECRYPT,
    errors.KeyInUseError: ExitCode.CHECK_FAILED,
    errors.RecordTamperedError: ExitCode.CHECK_FAILED,
    errors.PermissionDeniedError: ExitCode.DENIED,
    errors.StoreUnavailableError: ExitCode.UNREACHABLE,
}


class CommandError(Exception):
    """A command ends with these words and this code; the words hold no value."""

    def __init__(self, words: str, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(words)
        self.code = code


def exit_code_of(error: errors.SecretStoreError) -> ExitCode:
    """Return the exit code of an error of the library."""
    codes = (code for kind, code in _BY_ERROR.items() if isinstance(error, kind))
    return next(codes, ExitCode.FAILURE)
