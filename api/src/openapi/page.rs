//! `GET /docs`: the document as one page to be read. It has no script and loads nothing, so it works where nothing but this
//! server can be reached.

use std::fmt::Write as _;

use serde_json::Value;

use crate::router::TABLE;

const CSS: &str = include_str!("page.css");

/// The page.
pub(crate) fn render(document: &Value) -> String {
    let mut page = String::with_capacity(128 << 10);
    let title = format!("{} {}", words(&document["info"]["title"]), words(&document["info"]["version"]));
    page.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
    page.push_str(&escape(&title));
    page.push_str("</title><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>");
    page.push_str(CSS);
    page.push_str("</style></head><body>\n");
    navigation(&mut page, document);
    page.push_str("<main>");
    let _ = write!(page, "<h1>{}</h1><p>{}</p>", escape(&title), escape(words(&document["info"]["summary"])));
    prose(&mut page, words(&document["info"]["description"]));
    page.push_str("<p>The same for machines: <a href=\"/openapi.json\">openapi.json</a>.</p>");
    for tag in list(&document["tags"]) {
        let name = words(&tag["name"]);
        let _ = write!(page, "\n<h2 id=\"tag-{0}\">{0}</h2>", escape(name));
        prose(&mut page, words(&tag["description"]));
        for (method, path, operation) in operations(document, name) {
            article(&mut page, document, method, path, operation);
        }
    }
    page.push_str("\n<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let _ = write!(page, "\n<article id=\"schema-{0}\"><h3>{0}</h3>", escape(name));
        prose(&mut page, words(&schema["description"]));
        shape(&mut page, schema);
        for example in list(&schema["examples"]) {
            sample(&mut page, example);
        }
        page.push_str("</article>");
    }
    page.push_str("</main></body></html>\n");
    page
}

fn navigation(page: &mut String, document: &Value) {
    page.push_str("<nav aria-label=\"Operations\">");
    for tag in list(&document["tags"]) {
        let name = words(&tag["name"]);
        let _ = write!(page, "<h2><a href=\"#tag-{0}\">{0}</a></h2><ul>", escape(name));
        for (_, _, operation) in operations(document, name) {
            let id = escape(words(&operation["operationId"]));
            let _ = write!(page, "<li><a href=\"#{id}\">{}</a></li>", escape(words(&operation["summary"])));
        }
        page.push_str("</ul>");
    }
    page.push_str("<h2><a href=\"#schemas\">schemas</a></h2></nav>\n");
}

fn article(page: &mut String, document: &Value, method: &str, path: &str, operation: &Value) {
    let id = escape(words(&operation["operationId"]));
    let _ = write!(
        page,
        "\n<article id=\"{id}\"><h3><span class=\"method {method}\">{}</span><code>{}</code></h3><p>{}.</p>",
        method.to_ascii_uppercase(),
        escape(path),
        escape(words(&operation["summary"])),
    );
    prose(page, words(&operation["description"]));
    let roles: Vec<_> = list(&operation["x-berth-roles"]).map(words).collect();
    let who = if roles.is_empty() { "Anybody, without a credential".to_owned() } else { roles.join(", ") };
    let _ = write!(page, "<p class=\"roles\">Who may ask: {}.</p>", escape(&who));
    parameters(page, document, operation);
    for (media, content) in members(&operation["requestBody"]["content"]) {
        let _ = write!(page, "<h4>Body, <code>{}</code></h4><p>{}</p>", escape(media), kind(&content["schema"]));
        if let Some(example) = content.get("example") {
            sample(page, example);
        }
    }
    page.push_str("<h4>Answers</h4><table><thead><tr><th>status</th><th>what</th></tr></thead><tbody>");
    for (status, response) in members(&operation["responses"]) {
        let response = resolve(document, response);
        let content: Vec<_> = members(&response["content"]).map(|(_, content)| kind(&content["schema"])).collect();
        let told = inline(words(&response["description"]));
        let _ = write!(page, "<tr><td><code>{status}</code></td><td>{told} {}<p>", content.join(", "));
        for code in list(&operation["x-berth-codes"][status]) {
            let _ = write!(page, "<code>{}</code> ", escape(words(code)));
        }
        page.push_str("</p></td></tr>");
    }
    page.push_str("</tbody></table></article>");
}

fn parameters(page: &mut String, document: &Value, operation: &Value) {
    let mut any = list(&operation["parameters"]).peekable();
    if any.peek().is_none() {
        return;
    }
    page.push_str(
        "<h4>Parameters</h4><table><thead><tr><th>name</th><th>in</th><th>type</th><th>what</th></tr></thead><tbody>",
    );
    for parameter in any {
        let parameter = resolve(document, parameter);
        let need = if parameter["required"] == true { " <span class=\"need\">required</span>" } else { "" };
        let _ = write!(
            page,
            "<tr><td><code>{}</code>{need}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(words(&parameter["name"])),
            escape(words(&parameter["in"])),
            kind(&parameter["schema"]),
            inline(words(&parameter["description"])),
        );
    }
    page.push_str("</tbody></table>");
}

/// A schema's members as a table, or what else it is in a sentence.
fn shape(page: &mut String, schema: &Value) {
    let mut any = members(&schema["properties"]).peekable();
    if any.peek().is_none() {
        let _ = write!(page, "<p>{}</p>", kind(schema));
        return;
    }
    page.push_str("<table><thead><tr><th>member</th><th>type</th><th>what</th></tr></thead><tbody>");
    for (name, member) in any {
        let required = list(&schema["required"]).any(|needed| needed == name);
        let need = if required { " <span class=\"need\">required</span>" } else { "" };
        let what = inline(words(&member["description"]));
        let _ = write!(
            page,
            "<tr><td><code>{}</code>{need}</td><td>{}</td><td>{what}</td></tr>",
            escape(name),
            kind(member)
        );
    }
    page.push_str("</tbody></table>");
}

/// What a value of this schema is, in a few words of HTML.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.strip_prefix("#/components/schemas/")) {
        return format!("<a href=\"#schema-{0}\">{0}</a>", escape(name));
    }
    if let Some(value) = schema.get("const") {
        return format!("<code>{}</code>", escape(&value.to_string()));
    }
    if schema["enum"].is_array() {
        let values: Vec<_> = list(&schema["enum"]).map(|v| format!("<code>{}</code>", escape(words(v)))).collect();
        return values.join(" ");
    }
    for choice in ["oneOf", "anyOf"] {
        if schema[choice].is_array() {
            return list(&schema[choice]).map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    if schema["type"] == "array" {
        return format!("list of {}", kind(&schema["items"]));
    }
    let named: Vec<_> = match &schema["type"] {
        Value::Array(types) => types.iter().map(words).collect(),
        one => vec![words(one)],
    };
    let mut told = named.join(" or ");
    if told == "object" && schema["properties"].is_object() {
        let names: Vec<_> =
            members(&schema["properties"]).map(|(name, _)| format!("<code>{}</code>", escape(name))).collect();
        told = format!("object of {}", names.join(", "));
    }
    for (key, word) in [
        ("format", ""),
        ("minimum", "from "),
        ("maximum", "to "),
        ("minLength", "at least so long: "),
        ("maxLength", "at most so long: "),
        ("default", "default "),
    ] {
        if let Some(value) = schema.get(key) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(told, ", {word}{}", escape(&value));
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let _ = write!(told, ", <code>{}</code>", escape(pattern));
    }
    told
}

fn sample(page: &mut String, example: &Value) {
    let text = serde_json::to_string_pretty(example).unwrap_or_default();
    let _ = write!(page, "<pre tabindex=\"0\"><code>{}</code></pre>", escape(&text));
}

/// Paragraphs, with what stands between backticks as code.
fn prose(page: &mut String, text: &str) {
    for paragraph in text.split("\n\n").filter(|p| !p.is_empty()) {
        let _ = write!(page, "<p>{}</p>", inline(paragraph));
    }
}

fn inline(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        let part = escape(part);
        let _ = if i % 2 == 1 { write!(out, "<code>{part}</code>") } else { write!(out, "{part}") };
    }
    out
}

/// The operations of a tag in the order of the router's table: method, path, operation.
fn operations<'d>(document: &'d Value, tag: &'d str) -> impl Iterator<Item = (&'d str, &'d str, &'d Value)> {
    let told = TABLE.iter().filter_map(|endpoint| {
        let (path, item) = document["paths"].as_object()?.get_key_value(endpoint.template)?;
        let (method, operation) = item.as_object()?.get_key_value(&endpoint.method.as_str().to_ascii_lowercase())?;
        Some((method.as_str(), path.as_str(), operation))
    });
    told.filter(move |(_, _, operation)| list(&operation["tags"]).any(|t| t == tag))
}

fn resolve<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    let to = value["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    to.and_then(|to| document.pointer(to)).unwrap_or(value)
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_schema_has_its_place_and_every_link_leads_there() {
        let document = super::super::document();
        let page = render(&document);
        for (_, item) in members(&document["paths"]) {
            for (_, operation) in members(item) {
                let place = format!("<article id=\"{}\">", words(&operation["operationId"]));
                assert_eq!(page.matches(&place).count(), 1, "{place}: a tag that base.json does not have?");
            }
        }
        for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
        }
    }

    #[test]
    fn nothing_is_loaded_and_nothing_can_break_out() {
        let page = render(&super::super::document());
        for bad in ["<script", "src=", "http://", "https://", "@import"] {
            assert!(!page.contains(bad), "{bad}");
        }
        let mut out = String::new();
        prose(&mut out, "a <b>\"&\" `<i>`\n\nc");
        assert_eq!(out, "<p>a &lt;b&gt;&quot;&amp;&quot; <code>&lt;i&gt;</code></p><p>c</p>");
    }
}
