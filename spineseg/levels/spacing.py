"""Propose the positions of discs that nobody has marked yet, from the spacing of discs in an adult.

The distances are measured along the cord's line of the PAM50 template, in the small copy in sct_testing_data (MIT
licence, copyright 2014 neuropoly), whose slices are 2 mm thick.
"""

from __future__ import annotations

BELOW_C2_C3_MM = {
    **{2: -16.0, 3: 0.0, 4: 18.0, 5: 36.0, 6: 52.0, 7: 68.0, 8: 86.0, 9: 108.0, 10: 130.0, 11: 154.0, 12: 178.0},
    **{13: 202.0, 14: 228.0, 15: 256.0, 16: 282.0, 17: 310.0, 18: 338.0, 19: 370.0},
}
"""Value of each disc (3: C2/C3) and its distance below C2/C3 along the cord, mm."""


def propose_discs(known: dict[int, float]) -> dict[int, float]:
    """Propose the positions of the discs that are not marked.

    Parameters
    ----------
    known : dict of int to float
        Discs that a person has marked, with their distance downwards along the cord from any origin, mm.

    Returns
    -------
    dict of int to float
        The other discs of the template, with distances from the same origin. Each is placed from the nearest known
        disc by the template's spacing; with two or more known discs, the spacing is scaled to the outermost two. The
        quality-control page computes the same.
    """
    marked = sorted(value for value in known if value in BELOW_C2_C3_MM)
    if not marked:
        return {}
    first, last = marked[0], marked[-1]
    span = BELOW_C2_C3_MM[last] - BELOW_C2_C3_MM[first]
    scale = (known[last] - known[first]) / span if first < last else 1.0
    found = {}
    for value, place in BELOW_C2_C3_MM.items():
        if value not in known:
            nearest = min(marked, key=lambda one: abs(one - value))
            found[value] = known[nearest] + scale * (place - BELOW_C2_C3_MM[nearest])
    return found
