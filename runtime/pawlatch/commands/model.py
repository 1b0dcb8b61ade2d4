"""`pawlatch model`: another model for a door, from where it is published to its place, and back."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from pawlatch.bundle import PREVIOUS_NAME, installed, origin_of, require_whole, version_of
from pawlatch.card import CARD_NAME, parse_card, read_bundle
from pawlatch.classify import Classifier
from pawlatch.commands.arguments import whole
from pawlatch.config import Config, read_config
from pawlatch.delivery import Arrival, Offer, arrive, look, model_options, take_back, take_over
from pawlatch.errors import ConfigError, ModelCardError, PawlatchError
from pawlatch.model import open_model
from pawlatch.push import push
from pawlatch.records import JournalReader
from pawlatch.schema import DATABASE
from pawlatch.signature import sign
from pawlatch.trial import VISITS, Trial, hold_trial, trial_lines

SERVICE_CONFIG = Path("/etc/pawlatch/door.toml")


def model(argv: list[str]) -> int:
    """Bring, try, sign and take back models. Status 1: the new one is worse at this door."""
    args = _parser().parse_args(argv)
    return int(args.act(args))


def _look(args: argparse.Namespace) -> int:
    config, bundle = _place(args)
    offer, _ = _offered(args, config)
    before = installed(bundle)[1] if (bundle / CARD_NAME).is_file() else None
    return _end(args, {"version": offer.version, "before": before},
                f"{offer.version} is at {offer.source.place}; {bundle} holds {before or 'none'}")


def _offered(args: argparse.Namespace, config: Config) -> tuple[Offer, Path | None]:
    """What is published, and the key that must vouch for it."""
    place, key = args.url or config.update.url, args.key or config.update.key
    if place is None:
        raise ConfigError("name where the bundle is, as https://… or a folder, or write url = \"…\" below [update]")
    return look(place, key=key), key


def _pull(args: argparse.Namespace) -> int:
    config, bundle = _place(args)
    offer, key = _offered(args, config)
    before = installed(bundle)[1] if (bundle / CARD_NAME).is_file() else None
    told: dict[str, Any] = {"version": offer.version, "before": before, "status": "same", "selftest": "", "trial": None}
    if before == offer.version and _is_whole(args, bundle):
        return _end(args, told, f"{bundle} holds {before} already")
    with arrive(offer, bundle, config) as arrival:
        told["selftest"] = str(arrival.report)
        _say(args, f"{offer.version} from {offer.source.place}" + (f", signed by {key}" if key else ", not signed"))
        _say(args, told["selftest"])
        trial = None if before is None else _trial(args, config, bundle, arrival)
        if trial is not None:
            told["trial"] = trial.to_json()
            _say(args, *trial_lines(trial, str(before), offer.version))
            if trial.is_worse and not args.even_if_worse:
                return _end(args, told | {"status": "worse"}, f"{before} stays; to insist: --even-if-worse", status=1)
        take_over(arrival, bundle, place=args.origin)
    return _end(args, told | {"status": "installed"}, f"{bundle} now holds {offer.version}" + (
        f"; `pawlatch model rollback` brings {before} back" if before not in (None, offer.version) else ""))


def _is_whole(args: argparse.Namespace, bundle: Path) -> bool:
    """Whether what is there is still what its card says: else it is fetched again."""
    try:
        require_whole(*read_bundle(bundle))
    except ModelCardError as error:
        _say(args, str(error))
        return False
    return True


def _trial(args: argparse.Namespace, config: Config, bundle: Path, arrival: Arrival) -> Trial | None:
    """None where there is nothing to try it on."""
    try:
        champion = open_model(model_options(config, bundle))
        champion.warm_up()
    except PawlatchError as error:
        _say(args, f"the model that is there does not work, so there is nothing to compare with: {error}")
        return None
    return _held(args, config, champion, arrival.classifier)


def _held(args: argparse.Namespace, config: Config, old: Classifier, new: Classifier) -> Trial | None:
    folder = args.journal or config.journal.folder_of_door
    if args.journal is None and not (folder / DATABASE).is_file():
        _say(args, f"there is no journal in {folder}, so nothing is known of how it decides at this door")
        return None
    with JournalReader(folder) as journal:
        return hold_trial(journal, old, new, config.decision, visits=args.visits, progress=_progress)


def _compare(args: argparse.Namespace) -> int:
    settings = args.config or (SERVICE_CONFIG if SERVICE_CONFIG.is_file() else None)
    config = read_config(settings) if settings else Config()
    old, new = (open_model(model_options(config, folder)) for folder in (args.old, args.new))
    with JournalReader(args.journal or config.journal.folder_of_door) as journal:
        trial = hold_trial(journal, old, new, config.decision, visits=args.visits, progress=_progress)
    names = [version_of((each.bundle / CARD_NAME).read_bytes()) for each in (old, new)]
    _say(args, *trial_lines(trial, *names))
    return _end(args, trial.to_json(), "", status=int(trial.is_worse))


def _push(args: argparse.Namespace) -> int:
    more = [*(["--even-if-worse"] if args.even_if_worse else []), *(["--config", args.config] if args.config else [])]
    return push(args.bundle, args.to, program=args.program, arguments=more)


def _sign(args: argparse.Namespace) -> int:
    path = sign(args.bundle, args.key)
    print(f"{path}: publish it beside the card, and give doors the public key ({args.key}.pub)")
    return 0


def _rollback(args: argparse.Namespace) -> int:
    config, bundle = _place(args)
    bundle, before = installed(bundle)
    report = take_back(bundle, config)
    print(f"{bundle} holds {installed(bundle)[1]} again, {before} is the previous one\n{report}")
    return 0


def _status(args: argparse.Namespace) -> int:
    _, folder = _place(args)
    bundle, card = read_bundle(folder)
    rows: list[dict[str, Any]] = []
    for role, name in (("installed", CARD_NAME), ("previous", PREVIOUS_NAME)):
        if (bundle / name).is_file():
            data = (bundle / name).read_bytes()
            parse_card(data, name=str(bundle / name))
            origin = origin_of(bundle, data)
            rows.append({"role": role, "version": version_of(data), "origin": origin and dataclasses.asdict(origin)})
    if args.json:
        print(json.dumps({"bundle": str(bundle), "deploy": card.deploy, "models": rows}, ensure_ascii=False))
        return 0
    print(f"{bundle}, deployed: {card.deploy}")
    for row in rows:
        print(f"{row['role']:<10} {row['version']}  {_came(row['origin'])}")
    return 0


def _came(origin: dict[str, str] | None) -> str:
    if origin is None:
        return "converted here, or copied by hand"
    return f"from {origin['place']} at {origin['at']}, " + (f"signed by {origin['key']}" if origin["key"] else "not signed")


def _place(args: argparse.Namespace) -> tuple[Config, Path]:
    """The settings, and the bundle's folder; on a machine with a service its own where nothing, or its bundle, is named."""
    if args.config is None and SERVICE_CONFIG.is_file() and (args.into is None or _is_services(args.into)):
        args.config = SERVICE_CONFIG
    if args.config is None and args.into is None:
        raise ConfigError("name the door's settings with --config door.toml, or the bundle's folder with --into model/edge")
    config = read_config(args.config) if args.config else Config()
    return config, _bundle_in(args.into or config.model.bundle)


def _is_services(folder: Path) -> bool:
    """Whether it is the service's bundle, whose key, rules and decision count then; who may not read them cannot write it."""
    if not os.access(SERVICE_CONFIG, os.R_OK):
        return False
    return _bundle_in(folder).resolve() == _bundle_in(read_config(SERVICE_CONFIG).model.bundle).resolve()


def _bundle_in(folder: Path) -> Path:
    """Itself, or its `edge/`; as it is where no bundle is yet."""
    is_there = (folder / CARD_NAME).is_file() or (folder / "edge" / CARD_NAME).is_file()
    return read_bundle(folder)[0] if is_there else folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pawlatch model", description="Another model for the door, and back.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    here = argparse.ArgumentParser(add_help=False)
    here.add_argument("--config", type=Path, metavar="door.toml",
                      help=f"the door's settings: its bundle, journal, decision and [update] (default {SERVICE_CONFIG})")
    told = argparse.ArgumentParser(add_help=False)
    told.add_argument("--json", action="store_true", help="one JSON object instead of text")
    into = argparse.ArgumentParser(add_help=False)
    into.add_argument("--into", type=Path, metavar="BUNDLE", help="the bundle's folder, instead of the one in the settings")
    trying = argparse.ArgumentParser(add_help=False)
    trying.add_argument("--journal", type=Path, metavar="DIR", help="whose visits both models judge (default: the door's)")
    trying.add_argument("--visits", type=whole, default=VISITS, metavar="N",
                        help="how many at most, labelled ones first, then the newest (default %(default)s)")
    insist = argparse.ArgumentParser(add_help=False)
    insist.add_argument("--even-if-worse", action="store_true",
                        help="take it although it is worse at this door; never one that fails hash, signature or self-test")

    offered = argparse.ArgumentParser(add_help=False)
    offered.add_argument("url", nargs="?", metavar="URL",
                         help="https://… or a folder of a bundle (default: [update] of the settings)")
    offered.add_argument("--key", type=Path, metavar="PUBLIC", help="only a bundle that one of these public keys has signed")
    actions.add_parser("look", parents=[here, into, offered, told], help="which bundle is published, and which is here"
                       ).set_defaults(act=_look)
    pull = actions.add_parser("pull", parents=[here, into, offered, trying, insist, told],
                              help="fetch a bundle, check and try it, and switch")
    pull.add_argument("--origin", metavar="TEXT", help="write this down as where it came from, instead of URL")
    pull.set_defaults(act=_pull)
    pushing = actions.add_parser("push", parents=[insist], help="bring a bundle to a device by ssh, which then pulls it")
    pushing.add_argument("bundle", type=Path, help="the folder model/edge (or model/)")
    pushing.add_argument("to", metavar="HOST[:BUNDLE]", help="as ssh names it, and the folder there (default: its settings')")
    pushing.add_argument("--config", metavar="door.toml", help="the settings there")
    pushing.add_argument("--program", type=_words, default=["pawlatch"], metavar="COMMAND",
                         help='what to call there, as "sudo /opt/pawlatch/bin/pawlatch" (default: pawlatch)')
    pushing.set_defaults(act=_push)
    compare = actions.add_parser("compare", parents=[here, trying, told],
                                 help="what another model would decide otherwise; status 1: worse")
    compare.add_argument("old", type=Path, metavar="OLD", help="the bundle that is there")
    compare.add_argument("new", type=Path, metavar="NEW", help="the bundle that may come")
    compare.set_defaults(act=_compare)
    signing = actions.add_parser("sign", help="sign a bundle's card with an OpenSSH key, before it is published")
    signing.add_argument("bundle", type=Path, help="the folder model/edge (or model/)")
    signing.add_argument("--key", type=Path, required=True, help="the private key, as ~/.ssh/id_ed25519")
    signing.set_defaults(act=_sign)
    actions.add_parser("rollback", parents=[here, into], help="the previous model again; twice is once more the new one"
                       ).set_defaults(act=_rollback)
    for name in ("status", "list"):
        actions.add_parser(name, parents=[here, into, told], help="what is installed, what was before, and where they came from"
                           ).set_defaults(act=_status)
    parser.epilog = "".join(action.format_usage() for action in dict.fromkeys(actions.choices.values()))
    return parser


def _words(text: str) -> list[str]:
    """A command as a shell reads it."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is no command ({error}): {text}") from error
    if not words:
        raise argparse.ArgumentTypeError("must name a command")
    return words


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        end = "" if done + 1 < of else "\n"
        print(f"\rtrying both models on visit {done + 1} of {of}", end=end, file=sys.stderr, flush=True)


def _say(args: argparse.Namespace, *lines: str) -> None:
    if not args.json:
        print("\n".join(lines), flush=True)


def _end(args: argparse.Namespace, told: dict[str, Any], line: str, *, status: int = 0) -> int:
    if args.json:
        print(json.dumps(told, ensure_ascii=False))
    elif line:
        print(line)
    return status
