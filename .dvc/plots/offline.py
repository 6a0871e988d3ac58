"""Lets `dvc plots` write pages that need no network: DVC's own load Vega from the web, and stay empty where there is none.

out  .dvc/tmp/plots.html   a template of such pages, with Vega inside
     .dvc/config.local     says to use it
run  python .dvc/plots/offline.py   (`make setup` does)
"""

import subprocess
import sys
from pathlib import Path

import vl_convert

PAGE = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
{refresh_tag}
<title>DVC plots</title>
<script type="text/javascript">
%s
</script>
<style>
body {{ font-family: sans-serif; }}
table {{ border-spacing: 15px; }}
</style>
</head>
<body>
{plot_divs}
</body>
</html>
""".replace("{{", "{").replace("}}", "}")


def main() -> None:
    folder = Path(__file__).resolve().parent.parent
    vega = vl_convert.javascript_bundle("window.vega = vega; window.vegaLite = vegaLite; window.vegaEmbed = vegaEmbed;")
    template = folder / "tmp/plots.html"
    template.parent.mkdir(exist_ok=True)
    # a script ends at the first </script>, wherever it stands
    template.write_text(PAGE.replace("%s", vega.replace("</script", "<\\/script")), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", "tmp/plots.html"], cwd=folder.parent,
                   check=True)


if __name__ == "__main__":
    main()
