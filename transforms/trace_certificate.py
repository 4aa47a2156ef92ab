"""Why a learner has, or has not, a certificate: the verdicts about templates, criteria and the certificate itself.

Plain functions; the rules are those of the jobs. spec: collection-cert-pre-processor §3,
collection-certificate-generator §3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from transforms.certificate.request import CertificateRequest, InvalidRequest
from transforms.certificate_criteria import (
    InvalidCriteria,
    check_enrolment,
    check_score,
    check_user,
    criteria_of,
    issued_entry,
)
from transforms.certificate_templates import BrokenTemplate, Template, svg_templates
from transforms.generate_certificate import generate_event, issue_date, recipient_name
from transforms.stores import Row
from transforms.trace import (
    CERTIFICATE,
    CRITERIA,
    SHOWN,
    TEMPLATES,
    Fault,
    Learner,
    Step,
    Unread,
    Verdict,
    listed,
    unknown,
)

__all__ = ["Registered", "certificate_step", "criteria_step", "issued_under", "request_of", "templates_step"]


# --- 5: the templates of the batch


def templates_step(table: str, rows: Sequence[Row] | Unread) -> Step:
    """What certificates the batch offers; ``rows`` has the batch, when there is one."""
    if isinstance(rows, Unread):
        return unknown(TEMPLATES, table, rows.reason)
    attach = "Attach a certificate template with an .svg file to the batch; then issue the certificates of the batch."
    if not rows:
        why = "There is no such batch of this course."
        return Step(TEMPLATES, table, "no such batch", Verdict.NO, why, "Trace the course and batch of the enrolment.")
    offered = rows[0].get("cert_templates") or {}
    usable = {template.key: template for template in svg_templates(offered)}
    faults = {key: template_faults(template) for key, template in usable.items()}
    details = {
        "templates": [
            {
                "id": Template(key, members or {}).identifier,
                "name": Template(key, members or {}).name,
                "usable": key in usable,
                "faults": faults.get(key, []),
            }
            for key, members in offered.items()
        ]
    }
    if not usable:
        what = "none with an .svg file" if offered else "none"
        why = f"The batch has no certificate template{' with an .svg file' if offered else ''}."
        return Step(TEMPLATES, table, f"{len(offered)} templates, {what}", Verdict.NO, why, attach, details=details)
    names = ", ".join(f"{t.identifier} ({t.name or 'without name'})" for t in usable.values())
    found = f"{len(usable)} of {len(offered)} usable: {names}"
    broken = {usable[key].identifier: reasons for key, reasons in faults.items() if reasons}
    if broken:
        said = "; ".join(f"{key}: {', '.join(reasons)}" for key, reasons in broken.items())
        found += f"; broken: {said}"
        if len(broken) == len(usable):
            why = f"The certificate template is broken. {said}"
            return Step(TEMPLATES, table, found, Verdict.NO, why, "Mend the template, save it again.", details=details)
    return Step(TEMPLATES, table, found, Verdict.OK, details=details)


def template_faults(template: Template) -> list[str]:
    """What the pre-processor would get errors for, whoever the learner is. spec: collection-cert-pre-processor §3.1"""
    faults = []
    try:
        criteria_of(template)
    except InvalidCriteria as error:
        faults.append(str(error))
    return faults + _faults_beside_criteria(template)


def _faults_beside_criteria(template: Template) -> list[str]:
    faults = []
    for read, member in (
        (template.json_object, "issuer"),
        (template.json_array, "signatoryList"),
        (template.json_object, "additionalProps"),
    ):
        try:
            read(member)
        except BrokenTemplate as error:
            faults.append(str(error))
    return faults


# --- 6: the criteria of a template


class _Criterion(NamedTuple):
    name: str
    verdict: Verdict
    said: str


def criteria_step(
    looked_at: str,
    template: Template,
    row: Row | Unread | None,
    percentages: Mapping[str, float] | Unread | Fault,
    user: Mapping[str, Any] | Unread | Fault | None,
    course_name: str | Unread | Fault,
) -> Step:
    """Whether the pre-processor would ask for this certificate, were it not issued yet.

    ``percentages`` are those of the contents that count as assessments, read only when the criteria have any; ``user``
    is what the user service answers, ``course_name`` what the course is called. spec: collection-cert-pre-processor §3
    """
    try:
        criteria = criteria_of(template)
    except InvalidCriteria as error:
        checked = [_Criterion("template", Verdict.NO, str(error))]
    else:
        checked = [
            _enrolment(criteria, row, template.name),
            *([_score(criteria, percentages)] if criteria.get("assessment") else []),
            _user(criteria, user),
            *(_Criterion("template", Verdict.NO, fault) for fault in _faults_beside_criteria(template)),
        ]
        if isinstance(course_name, Fault | Unread):
            verdict = Verdict.NO if isinstance(course_name, Fault) else Verdict.UNKNOWN
            checked.append(_Criterion("course name", verdict, course_name.reason))
    verdicts = {criterion.verdict for criterion in checked}
    verdict = next((one for one in (Verdict.NO, Verdict.UNKNOWN) if one in verdicts), Verdict.OK)
    said = "; ".join(
        f"{criterion.name}: {'met' if criterion.verdict is Verdict.OK else criterion.said}" for criterion in checked
    )
    against = [criterion for criterion in checked if criterion.verdict is verdict]
    why, to_do = "", ""
    if verdict is not Verdict.OK:
        reasons = "; ".join(criterion.said for criterion in against)
        is_not = "are not met" if verdict is Verdict.NO else "could not all be checked"
        why = f"The criteria of the certificate {template.name!r} {is_not}: {reasons}."
    if verdict is Verdict.NO:
        to_do = _CRITERION_TO_DO[against[0].name]
    return Step(
        CRITERIA,
        looked_at,
        said,
        verdict,
        why,
        to_do,
        template.identifier,
        {
            "template": template.name,
            "criteria": [{"name": one.name, "verdict": one.verdict.value, "said": one.said} for one in checked],
        },
    )


_CRITERION_TO_DO = {
    "template": "Mend the template and save it again; then issue the certificates of the batch.",
    "enrolment": "See what the enrolment and the progress say.",
    "score": "The learner has to score better, or the template's criteria are not the ones that were meant.",
    "user": "Nothing, if that is what the template means; else change its criteria, or the account.",
    "course name": "Let the content service answer for the course; then issue the certificate again.",
}


def _enrolment(criteria: Mapping[str, Any], row: Row | Unread | None, name: str) -> _Criterion:
    if isinstance(row, Unread):
        return _Criterion("enrolment", Verdict.UNKNOWN, row.reason)
    # whether it is issued is the next step's matter
    return _said("enrolment", check_enrolment(criteria, row, name, reissue=True))


def _score(criteria: Mapping[str, Any], percentages: Mapping[str, float] | Unread | Fault) -> _Criterion:
    if isinstance(percentages, Unread):
        return _Criterion("score", Verdict.UNKNOWN, percentages.reason)
    if isinstance(percentages, Fault):
        return _Criterion("score", Verdict.NO, percentages.reason)
    try:
        reason = check_score(criteria, max(percentages.values(), default=0.0))
    except InvalidCriteria as error:
        return _Criterion("template", Verdict.NO, str(error))
    if reason is None:
        return _Criterion("score", Verdict.OK, "")
    scores = ", ".join(f"{content} {value:g} %" for content, value in list(sorted(percentages.items()))[:SHOWN])
    return _Criterion("score", Verdict.NO, f"{reason} ({scores or 'no content that counts as assessment has a score'})")


def _user(criteria: Mapping[str, Any], user: Mapping[str, Any] | Unread | Fault | None) -> _Criterion:
    if isinstance(user, Unread):
        return _Criterion("user", Verdict.UNKNOWN, user.reason)
    if isinstance(user, Fault):
        return _Criterion("user", Verdict.NO, user.reason)
    if not user:
        return _Criterion("user", Verdict.NO, "the user service knows no such user")
    return _said("user", check_user(criteria, user))


def _said(name: str, reason: str | None) -> _Criterion:
    return _Criterion(name, Verdict.OK if reason is None else Verdict.NO, reason or "")


# --- 7: the certificate


class Registered(NamedTuple):
    """What is known of certificates beside the enrolment; None: not looked at, as nothing asked for it.

    ``records`` are RC's for this learner, batch and certificate; ``in_registry``: whether the table of legacy
    certificates has the one that the enrolment names.
    """

    records: list[dict[str, Any]] | Unread | None
    in_registry: bool | Unread | None

    @property
    def active(self) -> list[str]:
        """The ids of RC's records that stand."""
        records = self.records if isinstance(self.records, list) else []
        return sorted(str(one["osid"]) for one in records if one.get("status") == "ACTIVE" and one.get("osid"))


def issued_under(template: Template, row: Row | Unread | None) -> Mapping[str, str] | None:
    """The enrolment's entry of this certificate."""
    if row is None or isinstance(row, Unread):
        return None
    return issued_entry(row.get("issued_certificates"), template.name)


def request_of(
    template: Template, learner: Learner, row: Row | Unread | None, user: Any, *, svg_template: str, base_path: str,
    suppress_signatories: bool,
) -> CertificateRequest | Fault:  # fmt: skip
    """What the generator would be asked for; a Fault when it would refuse it.

    A user that could not be read counts as one with a name. spec: collection-certificate-generator §3.2
    """
    completed_on = row.get("completedon") if isinstance(row, dict) else None
    try:
        event = generate_event(
            user_id=learner.user_id,
            org_id="",
            name_of_recipient=recipient_name(user) if isinstance(user, Mapping) else "-",
            course_name="",
            batch_id=learner.batch_id,
            template_id=template.identifier,
            template_name=template.name,
            template_url=svg_template,
            issuer=template.json_object("issuer"),
            signatories=template.json_array("signatoryList"),
            old_id="",
            issued_on=issue_date(completed_on, 0),
            base_path=base_path,
            related={"batchId": learner.batch_id, "courseId": learner.course_id, "type": template.name},
            now=0,
            new_id=str,
        )
        return CertificateRequest.of(event["edata"], suppress_signatories=suppress_signatories)
    except (InvalidRequest, BrokenTemplate) as error:
        return Fault(str(error))


def certificate_step(
    looked_at: str,
    template: Template,
    row: Row | Unread | None,
    criteria: Step,
    request: CertificateRequest | Fault,
    registered: Registered,
) -> Step:
    """Whether the certificate is issued, and whether enrolment and registry say the same of it.

    ``details.standing`` is ``issued``, ``lost`` (the enrolment names one that nobody has), ``unreferenced`` (RC has one
    that the enrolment does not name), ``refused`` (the generator would not take the request), ``due`` (it should be
    there) or ``not due``.
    """
    if isinstance(row, Unread):
        return unknown(CERTIFICATE, looked_at, row.reason, template.identifier)
    entry = issued_under(template, row)
    if entry is not None:
        stands = _issued(entry, registered)
    elif registered.active:
        of_rc = listed(registered.active)
        stands = _Standing(
            "unreferenced",
            Verdict.NO,
            f"not in the enrolment; in RC: {of_rc}",
            f"RC has the certificate {of_rc}, but the enrolment does not name it: a run was cut short.",
            "Send the generate event again, to collection-certificate-generator with rc.search.before.create: true.",
        )
    else:
        stands = _not_issued(template, criteria, request)
    beside = f"; {registered.records.reason}" if isinstance(registered.records, Unread) else ""
    details = {
        "standing": stands.name,
        "certificate": (entry or {}).get("identifier"),
        "issuedOn": (entry or {}).get("lastIssuedOn"),
        "activeRecords": registered.active if isinstance(registered.records, list) else None,
        "inRegistry": registered.in_registry if isinstance(registered.in_registry, bool) else None,
    }
    found = f"{stands.found}{beside}"
    return Step(CERTIFICATE, looked_at, found, stands.verdict, stands.why, stands.to_do, template.identifier, details)


class _Standing(NamedTuple):
    name: str
    verdict: Verdict
    found: str
    why: str = ""
    to_do: str = ""


def _issued(entry: Mapping[str, str], registered: Registered) -> _Standing:
    identifier = entry.get("identifier") or ""
    found = f"issued: {identifier or 'without identifier'}, {entry.get('lastIssuedOn') or 'without date'}"
    if identifier in registered.active or registered.in_registry is True:
        others = [one for one in registered.active if one != identifier]
        more = f"; RC has others that the enrolment does not name: {listed(others)}" if others else ""
        return _Standing("issued", Verdict.OK, f"{found}; registered{more}")
    if registered.in_registry is False:
        why = f"The enrolment names the certificate {identifier}, which is not registered: it can not be downloaded."
        return _Standing("lost", Verdict.NO, f"{found}; not registered", why, "Issue it again with reIssue: true.")
    unread = f"; {registered.in_registry.reason}" if isinstance(registered.in_registry, Unread) else ""
    return _Standing("issued", Verdict.OK, f"{found}{unread}")


def _not_issued(template: Template, criteria: Step, request: CertificateRequest | Fault) -> _Standing:
    if criteria.verdict is Verdict.NO:
        return _Standing("not due", Verdict.NOT_REACHED, "not issued, as the criteria are not met")
    if isinstance(request, Fault):
        return _Standing(
            "refused",
            Verdict.NO,
            f"not issued; the generator would refuse it: {request.reason}",
            f"collection-certificate-generator refuses the certificate {template.name!r}: {request.reason}",
            "Mend what it names, in the template or the account; then issue the certificate again.",
        )
    if criteria.verdict is not Verdict.OK:
        return _Standing("not due", Verdict.UNKNOWN, "not issued; whether it is due is not known")
    why = f"The criteria of the certificate {template.name!r} are met, but it is not issued."
    return _Standing("due", Verdict.NO, "not issued, although the criteria are met", why)
