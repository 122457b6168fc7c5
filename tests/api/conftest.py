"""Models and steps as users have them."""

from support.user_types import types_as_users_have_them  # noqa: F401
