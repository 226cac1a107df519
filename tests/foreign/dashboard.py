"""The queries of the dashboard that is shipped."""

import json
import re
from pathlib import Path
from typing import Dict

PACKAGING = Path(__file__).parents[2] / "broker/packaging"


def queries() -> Dict[str, str]:
    """Every query of the dashboard, by where it stands; Grafana's variables replaced as Grafana does."""
    found = {}
    dashboard = json.loads((PACKAGING / "grafana/queued.json").read_text())
    variables = {"$__rate_interval": "1m", "$job": "queued", "$instance": ".*", "$queue": ".*"}

    def add(where: str, query: str) -> None:
        for name, value in variables.items():
            query = query.replace(name, value)
        assert "$" not in query, f"{where}: a variable without a value in {query}"
        assert where not in found, f"two panels are called {where}"
        found[where] = query

    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            add(f"{panel['title']} {target['refId']}", target["expr"])
    for annotation in dashboard["annotations"]["list"]:
        add(annotation["name"], annotation["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            inner = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
            assert inner, variable["query"]
            add(f"variable {variable['name']}", inner[1])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
    return found
