"""What there is."""

from __future__ import annotations

import argparse

from paella.commands.printing import configuration, say, say_json, say_table


def systems(args: argparse.Namespace) -> None:
    config = configuration(args)
    found = [config.system(name) for name in config.systems()]
    if args.json:
        return say_json(found)
    rows = [(s.name, s.origin, "modelled" if s.modelled else "", s.summary) for s in found]
    return say_table(("system", "from", "", "summary"), rows)


def models(args: argparse.Namespace) -> None:
    config = configuration(args)
    profile = config.profile(args.profile or config.device(args.device).profile)
    mixes = [config.mix(name) for name in config.mixes()]
    shares = [{m.model: m.proportion for m in mix.models} for mix in mixes]
    if args.json:
        return say_json(
            {
                name: {
                    "kernels": len(model.kernels),
                    "blocks": sum(k.blocks for k in model.kernels),
                    "alone_us": model.alone_us,
                    "input_bytes": model.input_bytes,
                    "output_bytes": model.output_bytes,
                }
                for name, model in profile.models.items()
            }
        )
    rows = [
        (
            name,
            len(model.kernels),
            sum(k.blocks for k in model.kernels),
            model.alone_us / 1e3,
            *(share.get(name) for share in shares),
        )
        for name, model in profile.models.items()
    ]
    header = ("model", "kernels", "blocks", "alone ms", *(f"in {mix.name}" for mix in mixes))
    return say_table(header, rows)


def devices(args: argparse.Namespace) -> None:
    config = configuration(args)
    found = [config.device(name) for name in config.devices()]
    if args.json:
        return say_json(found)
    header = ("device", "label", "provenance", "SMs", "clock", "lanes", "profile", "iat scale")
    return say_table(
        header,
        [
            (
                d.name,
                d.label,
                d.provenance,
                d.sm.count,
                d.clock_scale,
                d.lanes_scale,
                d.profile,
                d.iat_scale,
            )
            for d in found
        ],
    )


def policies(args: argparse.Namespace) -> None:
    from paella import _core

    found = _core.policies()
    if args.json:
        return say_json(found)
    rows = [
        (p["name"], ", ".join(f"{o['name']}={o['default']:g}" for o in p["options"]), p["summary"])
        for p in found
    ]
    return say_table(("policy", "options", "summary"), rows)


def doctor(args: argparse.Namespace) -> int:
    from paella.doctor import as_json, examine

    parts, abilities = examine()
    if args.json:
        say_json(as_json(parts, abilities))
    else:
        say_table(("", "here", "detail"), [(p.name, p.found, p.detail) for p in parts])
        say("")
        say_table(
            ("to", "can", "missing"),
            [(a.name, a.possible, ", ".join(a.missing)) for a in abilities],
        )
    return 0 if abilities[0].possible else 1
