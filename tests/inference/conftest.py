"""These tests run whole training steps."""

from support.user_types import types_as_users_have_them  # noqa: F401
