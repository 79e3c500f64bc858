"""Tokens that a decoder leaves behind: masks of parallel decoding, pads and end marks."""

from __future__ import annotations

import re

MASK = re.compile(
    r"\[MASK\]|<mask>|<pad>|<\|?(?:mdm_mask|MASK|slot_pad)\|?>"
    r"|<\|(?:mask|pad|endoftext|im_end|im_start|eot_id|eos|end_of_text)\|>"
)


def has_masks(text: str) -> bool:
    """Whether any such token is in `text`; quick, so that clean text costs nothing."""
    hinted = "MASK" in text or ("<" in text and ("<|" in text or "mask>" in text or "pad>" in text))
    return hinted and MASK.search(text) is not None


__all__ = ["MASK", "has_masks"]
