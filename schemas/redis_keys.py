"""The names of Redis keys (spec: relation-cache-updater §3.7, user-cache-updater §4.1)."""

__all__ = ["ancestors", "leafnodes", "optionalnodes", "user"]


def leafnodes(root: str, collection: str) -> str:
    """The set of leaf nodes of a collection inside ``root``; the root itself is its own collection."""
    return f"{root}:{collection}:leafnodes"


def optionalnodes(root: str, collection: str) -> str:
    """The set of optional nodes of a collection inside ``root``."""
    return f"{root}:{collection}:optionalnodes"


def ancestors(root: str, content: str) -> str:
    """The set of collections inside ``root``, itself included, in which a content lies."""
    return f"{root}:{content}:ancestors"


def user(user_id: str) -> str:
    """The hash with the profile of a user."""
    return f"user:{user_id}"
