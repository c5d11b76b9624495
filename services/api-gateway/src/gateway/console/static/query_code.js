// A query as code that runs as it is. The key is in neither: both read it from the environment.
const address = `${location.origin}/v1/query`;

export function asCurl(asked) {
  const quoted = JSON.stringify(asked).replaceAll("'", "'\\''");
  return `curl -s ${address} -H "x-api-key: $BIGDATA_API_KEY" -H "content-type: application/json" -d '${quoted}'`;
}

export function asPython(asked) {
  return [
    "import os",
    "",
    "from bigdata_client import Client",
    "",
    `with Client(${JSON.stringify(location.origin)}, os.environ["BIGDATA_API_KEY"]) as client:`,
    `    result = client.query(${literal(asked)})`,
    "    for row in result:",
    "        print(row)",
    '    print(result.metadata.credits_used, "credits used,", result.metadata.credits_remaining, "left")',
    "",
  ].join("\n");
}

function literal(value) {
  if (value === null) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}
