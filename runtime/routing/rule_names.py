"""What a rule may call devices and languages: a name that no engine and no prompt can have would never fit."""

from __future__ import annotations

DEVICES = ("cpu", "cuda", "mps", "xpu", "remote")

_CODES = """
ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy ga
gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg lij
ln lo lt ltg lv mg mk ml mn mr ms mt my nb ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn
so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu zxx
"""

LANGUAGES = frozenset(_CODES.split())
"""The codes that the classifier of `language` gives."""


def wrong_device(name: str) -> str:
    """What to tell of a kind of device that no engine computes on, "" for one that some do."""
    if name in DEVICES:
        return ""
    hint = " Did you mean 'cuda'?" if "gpu" in name.lower() or "nvidia" in name.lower() else ""
    return f"no engine computes on a device {name!r}; there are {', '.join(DEVICES)}.{hint}"


def wrong_language(name: str) -> str:
    """What to tell of a language that no prompt is found to have, "" for one that some have."""
    if name in LANGUAGES:
        return ""
    short = name.lower().partition("-")[0].partition("_")[0]
    hint = f" Did you mean {short!r}?" if short in LANGUAGES else ""
    return (
        f"no prompt is ever found to be in {name!r}: languages are named by their ISO 639-1 codes, such as 'en', 'de' "
        f"or 'zh'.{hint}"
    )


__all__ = ["DEVICES", "LANGUAGES", "wrong_device", "wrong_language"]
