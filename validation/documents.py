"""Data Docs: what the suites said, as the static pages of Great Expectations, one a suite, and an index.

    build_docs([*(as_result(each, expected, at) for ...), dataset.told], folder)

The pages are those of Great Expectations' own renderers. Its templates load styles and scripts from eight other sites
and a picture from a ninth; these are left out, a style sheet of ours stands in their place, and a policy in each page
forbids the rest. So the pages can be read without a network and tell nobody that they were.
"""

import copy
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from validation.suites import Expected, context

INDEX = "index.html"

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --shade: #8882; --good: #187a33; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --good: #6fce87; --bad: #ff8a80; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.4rem; } h4, h5, h6 { font-size: 1.05rem; margin: 1.2rem 0 .4rem; }
a { color: inherit; } header, nav { margin-bottom: 1rem; } nav ul { list-style: none; padding: 0; }
nav li { display: inline-block; margin-right: 1rem; }
table { border-collapse: collapse; width: 100%; } [hidden] { display: none; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
.alert { background: var(--shade); border-left: .3rem solid var(--line); padding: .1rem 1rem; }
.badge { background: var(--shade); border-radius: .3rem; padding: 0 .3rem; }
.text-success, .good { color: var(--good); } .text-danger, .bad { color: var(--bad); }
.fas { font-style: normal; } .fa-check-circle::before { content: "\\2713"; } .fa-times::before { content: "\\2717"; }
.fa-exclamation-triangle::before { content: "!"; }
pre, td div { overflow-wrap: anywhere; white-space: normal; }
"""

_TEMPLATES = {
    "head.j2": f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{{{ heading | e }}}} - Data Docs</title>
<style>{_STYLE}</style>
</head>
""",
    "index.j2": """{% include 'head.j2' %}
<body><main><h1>Data Docs</h1>
<table><tr><th>Suite</th><th>Expectations that hold</th><th></th></tr>
{% for page, result in results %}
<tr><td><a href="{{ page }}">{{ result.suite_name | e }}</a></td>
<td>{{ result.statistics.successful_expectations }} of {{ result.statistics.evaluated_expectations }}</td>
<td class="{{ 'good' if result.success else 'bad' }}">{{ 'all hold' if result.success else 'some do not' }}</td></tr>
{% endfor %}</table></main></body></html>
""",
    "page.j2": f"""{{% include 'head.j2' %}}
<body><header><a href="{INDEX}">Data Docs</a><h1>{{{{ heading | e }}}}</h1></header>
<nav aria-label="Contents"><ul>{{% for section in sections %}}
<li><a href="#section-{{{{ loop.index }}}}">{{{{ section['section_name'] }}}}</a></li>
{{% endfor %}}</ul></nav>
<main>{{% for section in sections %}}{{% set section_loop = loop -%}}{{% include 'section.j2' %}}{{% endfor %}}</main>
</body></html>
""",
    "collapse.j2": """<details><summary>More</summary>
{% for block in content_block["collapse"] %}{% set collapse_loop = loop %}
{{ block | render_content_block(content_block_id=content_block_id ~ "-more-" ~ collapse_loop.index) }}
{% endfor %}</details>
""",
}
"""What stands in the place of templates of Great Expectations that need a network or scripts."""


def as_result(told: Mapping[str, Any], expected: Sequence[Expected], at: str) -> dict[str, Any]:
    """Return what a suite said of all shards (see `validation.suites.merged`) as the JSON of a validation result.

    `at` is the time of the run in ISO 8601.
    """
    results = [_as_result(one, told) for one in expected]
    good = sum(result["success"] for result in results)
    return {
        "success": good == len(results),
        "results": results,
        "suite_name": f"{told['suite']}_{told['table']}",
        "suite_parameters": {},
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": good,
            "unsuccessful_expectations": len(results) - good,
            "success_percent": 100 * good / len(results) if results else None,
        },
        "meta": {"labelstream": told["version"], "run_id": {"run_name": told["suite"], "run_time": at}},
        "id": None,
    }


def build_docs(results: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write the pages of validation results, as JSON of Great Expectations, into `folder`; return the index.

    Pages of the same suites that are there already are replaced.
    """
    context()  # loads the library as it should be
    view = _view()
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for result in results:
        name = re.sub(r"[^A-Za-z0-9-]+", "_", str(result["suite_name"]))[:80]
        page, suite = _pages(view, result, name)
        page = page.replace(f"../../../../expectations/{name}.html", f"{name}_suite.html")
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
        (folder / f"{name}_suite.html").write_text(suite, encoding="utf-8")
        listed.append((f"{name}.html", result))
    index = folder / INDEX
    whole = view.env.get_template("index.j2").render(results=listed, heading="All suites")
    index.write_text(whole, encoding="utf-8")
    return index


def _as_result(one: Expected, told: Mapping[str, Any]) -> dict[str, Any]:
    broken, rows = told["failed"].get(one.name, 0), told["rows"]
    counted = {"element_count": rows, "unexpected_count": broken, "unexpected_percent": 100 * broken / max(1, rows)}
    return {
        "success": one.name not in told["failed"],
        "expectation_config": one.expectation.configuration.to_json_dict(),
        "result": counted if one.by_row else {},
        "meta": {},
        "exception_info": {"raised_exception": False, "exception_traceback": None, "exception_message": None},
    }


def _pages(view: Any, told: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Return the page of a validation result, and that of its suite; `name` is a plain one for it."""
    import great_expectations as gx
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
    from great_expectations.render.renderer import ExpectationSuitePageRenderer, ValidationResultsPageRenderer

    escaped = _escaped(told, name)
    configurations = [copy.deepcopy(each["expectation_config"]) for each in escaped["results"]]
    suite = gx.ExpectationSuite(name=name, expectations=configurations)
    result = expectationSuiteValidationResultSchema.load(escaped)
    pages = ValidationResultsPageRenderer().render(result), ExpectationSuitePageRenderer().render(suite)
    of_result, of_suite = (str(view.render(page, heading=told["suite_name"])) for page in pages)
    return of_result, of_suite


def _view() -> Any:
    from great_expectations.render.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, DictLoader

    view = DefaultJinjaPageView()
    view.env.loader = ChoiceLoader([DictLoader(_TEMPLATES), view.env.loader])
    return view


def _escaped(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a result without free texts that are no HTML: Great Expectations escapes arguments, and little else."""
    escaped = copy.deepcopy(dict(told))
    at = told["meta"].get("run_id", {}).get("run_time", "")
    escaped |= {"suite_name": name, "meta": {"run_id": {"run_name": name, "run_time": at}}}
    for each in escaped["results"]:
        configuration = each["expectation_config"]
        configuration.pop("notes", None)
        configuration["meta"] = {}
        if configuration.get("description"):
            configuration["description"] = html.escape(configuration["description"])
    return escaped
