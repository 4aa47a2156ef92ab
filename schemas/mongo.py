"""The collections of the ML services in MongoDB, as far as jobs touch them (spec: ml-user-delete §4,
ml-transfer-ownership §4)."""

__all__ = ["OWNERS", "PROGRAMS", "SOLUTIONS", "USER_EXTENSION", "USER_ROLES"]

SOLUTIONS = "solutions"
PROGRAMS = "programs"
USER_EXTENSION = "userExtension"
USER_ROLES = "userRoles"

OWNERS = {
    "observations": "createdBy",
    "surveySubmissions": "createdBy",
    "observationSubmissions": "createdBy",
    "projects": "userId",
    "programUsers": "userId",
    SOLUTIONS: "author",
    PROGRAMS: "owner",
    USER_EXTENSION: "userId",
}
"""The field of each collection that holds the id of a document's owner; the services have an index on it."""
