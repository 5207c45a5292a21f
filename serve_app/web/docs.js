// Shows /openapi.json: calls by tag, their parameters, bodies and answers, then the schemas.

const METHODS = ["get", "post", "put", "patch", "delete"];

function make(name, text, ...children) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}

// Text with `names` in it, as the description has them.
function prose(name, text = "") {
  const parts = text.split("`").map((part, place) => (place % 2 ? make("code", part) : part));
  return make(name, "", ...parts);
}

function table(heads, rows) {
  const head = make("tr", "", ...heads.map((text) => make("th", text)));
  const lines = rows.map((cells) => make("tr", "", ...cells.map((cell) => make("td", "", cell))));
  const whole = make("div", "", make("table", "", make("thead", "", head), make("tbody", "", ...lines)));
  whole.className = "scroll";
  return whole;
}

function folded(summary, ...children) {
  const detail = make("div", "", ...children);
  detail.className = "detail";
  return make("details", "", make("summary", "", ...summary), detail);
}

const lastPart = (reference) => reference.split("/").pop();

function typeOf(schema = {}) {
  if (schema.$ref) {
    const link = make("a", lastPart(schema.$ref));
    link.href = `#${lastPart(schema.$ref)}`;
    return link;
  }
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return joined(several.map(typeOf), " or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return joined(["list of ", typeOf(schema.items)], "");
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return joined(["map to ", typeOf(schema.additionalProperties)], "");
  }
  return schema.format ? `${schema.type} (${schema.format})` : (schema.type ?? "any");
}

function joined(parts, separator) {
  return make("span", "", ...parts.flatMap((part, place) => (place && separator ? [separator, part] : [part])));
}

function curl(method, path, body) {
  const address = `${location.origin}${path.replace("{id}", "gate-3")}`;
  const [type, content] = Object.entries(body?.content ?? {})[0] ?? [];
  const lines = [`curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} '${address}'`];
  if (type) lines.push(`  -H 'Content-Type: ${type}'`);
  if (type) lines.push(content.example ? `  -d '${JSON.stringify(content.example)}'` : "  --data-binary @picture.jpg");
  return make("pre", lines.join(" \\\n"));
}

function showCall(method, path, call) {
  const name = make("span", method.toUpperCase());
  name.className = "method";
  const parts = [prose("p", call.description)];
  if (call.parameters) {
    const rows = call.parameters.map((one) => [
      make("code", one.name), one.in, typeOf(one.schema),
      one.schema?.default !== undefined ? `default ${JSON.stringify(one.schema.default)}` : one.required ? "required" : "",
      prose("span", one.description),
    ]);
    parts.push(table(["Parameter", "In", "Type", "", "Meaning"], rows));
  }
  const bodies = Object.entries(call.requestBody?.content ?? {});
  if (bodies.length) parts.push(table(["Body", "Schema"], bodies.map(([type, { schema }]) => [type, typeOf(schema)])));
  const answers = Object.entries(call.responses).map(([status, { description, content }]) => {
    const schema = Object.values(content ?? {})[0]?.schema;
    return [status, prose("span", description), schema ? typeOf(schema) : ""];
  });
  parts.push(table(["Answer", "Meaning", "Schema"], answers), curl(method, path, call.requestBody));
  return folded([name, make("code", path), ` ${call.summary}`], ...parts);
}

function showSchema(name, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([field, one]) => [
    make("code", field), typeOf(one),
    one.default !== undefined ? JSON.stringify(one.default) : schema.required?.includes(field) ? "required" : "",
    prose("span", one.description),
  ]);
  const parts = [prose("p", schema.description)];
  parts.push(rows.length ? table(["Field", "Type", "Default", "Meaning"], rows) : make("p", "", typeOf(schema)));
  const element = folded([name], ...parts);
  element.id = name;
  return element;
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

async function show() {
  const about = document.getElementById("about");
  const response = await fetch("openapi.json").catch(() => null);
  if (!response?.ok) {
    about.textContent = "The description can't be loaded: the server does not answer. Load the page again.";
    return;
  }
  const api = await response.json();
  about.replaceChildren(prose("span", `Version ${api.info.version}. ${api.info.description}`));
  for (const tag of api.tags) {
    const section = make("section", "", make("h2", tag.description));
    section.className = "panel";
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const method of METHODS) {
        if (methods[method]?.tags?.includes(tag.name)) section.append(showCall(method, path, methods[method]));
      }
    }
    document.getElementById("calls").append(section);
  }
  const schemas = Object.entries(api.components.schemas).map(([name, schema]) => showSchema(name, schema));
  document.getElementById("schemas").append(...schemas);
  addEventListener("hashchange", openTarget);
  openTarget();
}

show();
