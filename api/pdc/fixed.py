"""What is the same on every server: types of releases, and what is not kept here (pdc, 5.3, 5.4, 5.9; design 13.24)."""

from __future__ import annotations

from operator import itemgetter

from api.pdc.noun import Key, Noun, any_of, by_value, containing
from reconciler.model.product import release_types

RELEASE_TYPES = Noun(
    path="release-types",
    title="Release Type",
    about="The types of releases; all but ga end the id of a release.",
    keys=(Key("short", read_only=True), Key("name", read_only=True), Key("suffix", read_only=True)),
    rows=lambda _catalogue: release_types(),
    body=lambda row, _view: row,
    filters={"short": any_of(lambda row: row["short"]), "name": containing(lambda row: row["name"])},
    order=by_value({name: itemgetter(name) for name in ("short", "name", "suffix")}),
)
BASE_PRODUCTS = Noun(
    path="base-products",
    title="Base Product",
    about="This server keeps no base products.",
    keys=(
        Key("base_product_id", read_only=True),
        *(Key(name, read_only=True) for name in ("short", "version", "name", "release_type")),
    ),
    rows=lambda _catalogue: (),
    body=lambda row, _view: row,
    filters={name: any_of(lambda _row: None) for name in ("base_product_id", "short", "version", "name")},
    order=by_value(
        {
            name: (lambda _row: None)
            for name in ("base_product_id", "short", "version", "name", "release_type")
        }
    ),
    instead="This server keeps no base products: releases stand for themselves.",
)
RELEASE_VARIANTS = Noun(
    path="release-variants",
    title="Release Variant",
    about="This server keeps no variants of releases.",
    keys=tuple(
        Key(name, read_only=True)
        for name in ("id", "release", "variant_id", "variant_uid", "variant_name", "variant_type", "arches")
    ),
    rows=lambda _catalogue: (),
    body=lambda row, _view: row,
    filters={"release": any_of(lambda _row: None)},
)
