"""Write a copy of _config.yml that renders the committed outputs: ``python .ci/config_off.py _config.yml OUT``."""

import sys
from pathlib import Path

import yaml


def main(source: str, target: str) -> None:
    """Read `source`, turn execution off, write `target`."""
    config = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
    config.setdefault("execute", {})["execute_notebooks"] = "off"
    # the folders of our own extensions are relative to the file that names them
    extensions = config.get("sphinx", {}).get("local_extensions", {})
    extensions.update({name: str(Path(source).resolve().parent / folder) for name, folder in extensions.items()})
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
