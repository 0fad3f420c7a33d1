"""Renders charts with the values that it is given, and exports what comes out."""

import json
from pathlib import Path

import pulumi

exported = {
    name: pulumi.runtime.invoke_output("kubernetes:helm:template", {"jsonOpts": json.dumps(options)})
    for name, options in json.loads(Path("charts.json").read_text()).items()
}
for name, documents in exported.items():
    pulumi.export(name, documents.apply(lambda answer: answer["result"]))
