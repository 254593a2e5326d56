"""Colours as TeX and CSS write them, and whether text of one shows on another."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping, Sequence

#: Red, green and blue from 0 to 1.
Colour = tuple[float, float, float]

WHITE: Colour = (1.0, 1.0, 1.0)
BLACK: Colour = (0.0, 0.0, 0.0)
#: Least difference in one of the three parts at which text can be read: 15 of 255 grey levels.
CONTRAST = 0.06

#: Names of xcolor and of CSS that are used for text, and the nearly white ones.
NAMED: Mapping[str, Colour] = {
    "white": WHITE,
    "black": BLACK,
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "cyan": (0, 1, 1),
    "aqua": (0, 1, 1),
    "magenta": (1, 0, 1),
    "fuchsia": (1, 0, 1),
    "yellow": (1, 1, 0),
    "gray": (0.5, 0.5, 0.5),
    "grey": (0.5, 0.5, 0.5),
    "darkgray": (0.25, 0.25, 0.25),
    "lightgray": (0.75, 0.75, 0.75),
    "silver": (0.75, 0.75, 0.75),
    "brown": (0.75, 0.5, 0.25),
    "lime": (0.75, 1, 0),
    "olive": (0.5, 0.5, 0),
    "orange": (1, 0.5, 0),
    "pink": (1, 0.75, 0.75),
    "purple": (0.75, 0, 0.25),
    "teal": (0, 0.5, 0.5),
    "violet": (0.5, 0, 0.5),
    "navy": (0, 0, 0.5),
    "snow": (1, 0.98, 0.98),
    "ivory": (1, 1, 0.94),
    "ghostwhite": (0.97, 0.97, 1),
    "floralwhite": (1, 0.98, 0.94),
    "mintcream": (0.96, 1, 0.98),
    "azure": (0.94, 1, 1),
    "whitesmoke": (0.96, 0.96, 0.96),
    "seashell": (1, 0.96, 0.93),
    "honeydew": (0.94, 1, 0.94),
    "aliceblue": (0.94, 0.97, 1),
}

_NUMBER = re.compile(r"-?\d*\.?\d+")


def shows(text: Colour | None, ground: Colour | None) -> bool:
    """Can text of this colour be read on this ground? An unknown colour is assumed to show."""
    if text is None or ground is None:
        return True
    return max(abs(one - other) for one, other in zip(text, ground, strict=True)) >= CONTRAST


def tex_colour(
    specification: str, model: str = "", defined: Mapping[str, Colour] | None = None
) -> Colour | None:
    """A colour of xcolor: a name, a mixture such as `white!90!black`, or numbers of a model."""
    if model:
        return _of_model(model.strip(), specification)
    names = {**NAMED, **(defined or {})}
    parts = [part.strip() for part in specification.lstrip("-").split("!")]
    colour = _named(parts[0], names)
    for share, other in zip(parts[1::2], [*parts[2::2], "white"], strict=False):
        second = _named(other or "white", names)
        number = _NUMBER.fullmatch(share)
        if colour is None or second is None or number is None:
            return None
        weight = min(1.0, max(0.0, float(share) / 100))
        colour = _mixed(colour, second, weight)
    return colour


def css_colour(value: str) -> Colour | None:
    """A colour of CSS or HTML; None where it is unknown."""
    text = value.strip().lower()
    found = re.match(r"#([0-9a-f]{3,8})\b", text)
    if found:
        return _of_hex(found[1])
    found = re.match(r"(rgb|hsl)a?\(([^()]{1,80})\)", text)
    if found:
        return _of_function(found[1], found[2])
    return NAMED.get(text)


def css_alpha(value: str) -> float:
    """The opacity within a colour of CSS."""
    text = value.strip().lower()
    if text == "transparent":
        return 0.0
    found = re.match(r"#(?:[0-9a-f]{6}([0-9a-f]{2})|[0-9a-f]{3}([0-9a-f]))$", text)
    if found:
        return int((found[1] or found[2] * 2), 16) / 255
    found = re.match(r"(?:rgb|hsl)a?\(([^()]{1,80})\)", text)
    parts = re.split(r"[\s,/]+", found[1].strip()) if found else []
    return _share(parts[3], 1.0) if len(parts) == 4 else 1.0


def _named(name: str, names: Mapping[str, Colour]) -> Colour | None:
    return names.get(name) or names.get(name.lower())


def _mixed(first: Colour, second: Colour, weight: float) -> Colour:
    red, green, blue = (
        weight * one + (1 - weight) * other for one, other in zip(first, second, strict=True)
    )
    return red, green, blue


def _of_model(model: str, specification: str) -> Colour | None:
    if model.upper() == "HTML":
        return _of_hex(specification.strip().lstrip("#"))
    numbers = [float(one) for one in _NUMBER.findall(specification)]
    if model == "RGB" and len(numbers) == 3:
        return _three([one / 255 for one in numbers])
    if model == "rgb" and len(numbers) == 3:
        return _three(numbers)
    if model in ("gray", "Gray") and len(numbers) == 1:
        grey = numbers[0] if model == "gray" else numbers[0] / 15
        return grey, grey, grey
    if model == "cmyk" and len(numbers) == 4:
        return _three([(1 - one) * (1 - numbers[3]) for one in numbers[:3]])
    if model == "cmy" and len(numbers) == 3:
        return _three([1 - one for one in numbers])
    if model == "hsb" and len(numbers) == 3:
        return colorsys.hsv_to_rgb(*numbers)
    return tex_colour(specification) if model == "named" else None


def _of_hex(digits: str) -> Colour | None:
    if len(digits) in (3, 4):
        digits = "".join(2 * one for one in digits)
    try:
        return _three([int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)])
    except ValueError:
        return None


def _of_function(name: str, arguments: str) -> Colour | None:
    parts = re.split(r"[\s,/]+", arguments.strip())
    if len(parts) < 3:
        return None
    if name == "rgb":
        return _three([_share(part, 255.0) for part in parts[:3]])
    hue = _NUMBER.match(parts[0])
    if hue is None:
        return None
    lightness, saturation = _share(parts[2], 100.0), _share(parts[1], 100.0)
    return colorsys.hls_to_rgb(float(hue[0]) / 360 % 1, lightness, saturation)


def _share(text: str, whole: float) -> float:
    number = _NUMBER.match(text)
    if number is None:
        return 1.0
    return float(number[0]) / (100 if text.endswith("%") else whole)


def _three(numbers: Sequence[float]) -> Colour:
    red, green, blue = (min(1.0, max(0.0, one)) for one in numbers)
    return red, green, blue
