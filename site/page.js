// The form, and the answer to it. Everything that is known is asked of torchinstall itself, in the worker.

const $ = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 54rem)");

/** Systems that can be chosen: what a machine file says of each, and how people call it. */
const SYSTEMS = {
  linux: {
    archs: { x86_64: "x86-64", aarch64: "Arm (aarch64)" },
    versions: {
      "glibc 2.39": "Ubuntu 24.04, RHEL 10 (glibc 2.39)",
      "glibc 2.35": "Ubuntu 22.04 (glibc 2.35)",
      "glibc 2.31": "Ubuntu 20.04, Debian 11 (glibc 2.31)",
      "glibc 2.41": "Debian 13 (glibc 2.41)",
      "glibc 2.36": "Debian 12 (glibc 2.36)",
      "glibc 2.34": "RHEL 9, Amazon Linux 2023 (glibc 2.34)",
      "glibc 2.28": "RHEL 8, Debian 10 (glibc 2.28)",
      "glibc 2.17": "CentOS 7 (glibc 2.17)",
      "musl 1.2": "Alpine (musl)",
    },
  },
  windows: { archs: { x86_64: "x86-64", aarch64: "Arm" }, versions: { "": "10, 11, Server" } },
  macos: {
    archs: { aarch64: "Apple silicon", x86_64: "Intel" },
    versions: { 26.1: "macOS 26", 15.3: "macOS 15", 14.5: "macOS 14", 13.6: "macOS 13", 12.7: "macOS 12" },
  },
};
SYSTEMS.wsl = { ...SYSTEMS.linux, archs: { x86_64: "x86-64" } };

/** The forms of an answer: what it is called, what is typed after `torchinstall`, and what to do with it. */
const FORMS = [
  { name: "pip", format: "pip", hint: "Type the commands in your environment, one after the other." },
  { name: "uv", format: "uv-pip", hint: "Type the commands in your environment, one after the other." },
  { name: "pyproject.toml", format: "uv", hint: "Save it as pyproject.toml, then type uv sync." },
  { name: "Dockerfile", format: "dockerfile", hint: "Save it as Dockerfile, then type docker build -t IMAGE ." },
  { name: "Poetry", format: "poetry", hint: "Save it as pyproject.toml, then type poetry install." },
  { name: "pixi", format: "pixi", hint: "Save it as pixi.toml, then type pixi install." },
  { name: "conda", format: "conda", hint: "Save it as environment.yml, then type conda env create." },
  { name: "torchinstall", hint: "On the machine itself: it looks at the machine, installs, and checks that torch computes." },
];
/** Between two requirements; not in `torch @ https://…`, and not in a marker (`; python_version < "3.13" and …`). */
const BETWEEN = /(?<![@;]\s*|\b(?:and|or|in)\s*)[\s,]+(?=[A-Za-z])(?!(?:and|or|in|not)\b)/;
const FIELDS = ["arch", "version", "gpu", "driver", "python", "backend", "others"];

const { docs } = document.documentElement.dataset; // where the documentation is, if it is beside the page
let facts = null;
let nodes = null; // machines of the pasted text; null: the fields describe the machine
let node = 0;
let plan = null;
let form = FORMS[0];
let pending = 0;
let turn = 0; // counts questions: an answer to an older one is dropped
let source = 0; // counts what describes the machine (a link, a pasted text, the fields): an older one is dropped

/** An element: `element("p", { id: "x" }, "text", child)`. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const say = (text) => ($("said").textContent = text);

// The worker ------------------------------------------------------------------------------------------------

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let asked = 0;

function ask(name, ...values) {
  return new Promise((resolve, reject) => {
    waiting.set(++asked, { resolve, reject });
    worker.postMessage({ id: asked, name, values });
  });
}

worker.onmessage = ({ data }) => {
  if (!waiting.has(data.id)) return failed(new Error(data.problem));
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if ("problem" in data) reject(new Error(data.problem));
  else resolve(data.answer);
};
worker.onerror = () => failed(new Error("the planner did not start"));

/** There is no answer: nothing of an older one stays beside the reason. */
function failed({ message }) {
  const last = message.trimEnd().split("\n").at(-1); // of a traceback
  state("bad", facts ? `The planner failed: ${last}` : `This browser cannot run the planner: ${last}`);
  if (!facts) $("result").setAttribute("aria-busy", "false");
  $("peek").textContent = "No answer";
  for (const id of ["verdict", "details", "error", "warnings", "install", "share", "why", "raw"]) $(id).hidden = true;
}

// What is asked ---------------------------------------------------------------------------------------------

const field = (name) => $("machine").elements[name].value.trim();
const chosenOs = () => $("machine").elements.os.value;

/** The machine file of the answer, and the words that describe the rest of the machine. */
function machine() {
  if (nodes) return { file: nodes[node].machine, words: [] };
  const os = chosenOs();
  const file = { schema_version: 1, os: os === "wsl" ? "linux" : os, arch: field("arch") };
  if (os === "macos") {
    file.os_version = field("version");
    if (file.arch === "aarch64") file.gpus = [{ vendor: "apple", integrated: true }];
    return { file, words: [] };
  }
  if (os !== "windows") {
    const [family, version] = field("version").split(" ");
    file.libc = { family, version };
  }
  if (os === "wsl") file.environment = ["wsl2"];
  const words = field("gpu").split(",").map((name) => name.trim()).filter(Boolean)
    .flatMap((name) => ["--target-gpu", name]);
  if (field("driver")) words.push("--target-driver", field("driver"));
  return { file, words };
}

function requirements() {
  const boxes = [...$("packages").querySelectorAll(":checked")].map((box) => box.value);
  // A space before it makes it a package's name, whatever it is: a link must not choose options, such as an index.
  const others = field("others").split(BETWEEN).filter(Boolean)
    .map((text) => (text.startsWith("-") ? ` ${text}` : text));
  const named = new Set(others.map((text) => text.match(/^[\w.-]*/)[0].toLowerCase()));
  return [...boxes.filter((name) => !named.has(name)), ...others];
}

/** What is typed after `torchinstall VERB`, and what is piped into it. */
function question() {
  const { file, words } = machine();
  const backend = field("backend");
  return {
    file: `${JSON.stringify(file)}\n`,
    words: [
      "--offline", "--machine", "-", ...words, "--python-version", field("python"),
      ...(backend === "auto" ? [] : ["--backend", backend]), ...requirements(),
    ],
  };
}

const run = (verb, { file, words }, ...more) => ask("run", [...verb.split(" "), ...more, ...words], file);

/** While something is asked, the answer says that it is not whole. */
async function busy(work) {
  pending += 1;
  $("result").setAttribute("aria-busy", "true");
  try {
    await work;
  } catch (error) {
    failed(error);
  } finally {
    pending -= 1;
    if (!pending) $("result").setAttribute("aria-busy", "false");
  }
}

const update = () => busy(answered());

async function answered() {
  const mine = ++turn;
  const started = performance.now();
  remember();
  const asking = question();
  const answer = await run("plan --json", asking);
  if (mine !== turn) return;
  plan = JSON.parse(answer.out);
  show(answer.out, asking);
  performance.measure("plan", { start: started });
  await Promise.all([showForm(mine), showReasons(mine, asking)]);
}

// The answer ------------------------------------------------------------------------------------------------

function state(kind, text) {
  $("state").className = `state ${kind}`;
  $("state").textContent = text;
}

function show(text, { words }) {
  const error = plan.error;
  const used = plan.gpus.filter((gpu) => gpu.covered);
  const names = (gpus) => [...new Set(gpus.map(called))].join(", ");
  const torch = plan.packages.find((item) => item.name === "torch");
  if (error) state("bad", error.slug === "unknown-gpu" ? "This GPU is not known" : "Nothing fits");
  else if (used.length) state("good", `Runs on the ${names(used)}`);
  else if (plan.gpus.length) state("fair", "Runs on the CPU only");
  else state("good", "Runs on the CPU");
  if (error?.exit_code === 2 && error.slug !== "unknown-gpu") state("bad", "Something that was entered is not right");

  $("verdict").hidden = $("details").hidden = Boolean(error);
  $("verdict").textContent = torch ? `torch ${torch.version ?? ""}` : "";
  const others = plan.packages.filter((item) => item !== torch).map((item) => `${item.name} ${item.version ?? ""}`.trim());
  $("details").textContent = [
    others.length ? `with ${others.join(", ")}` : "",
    `for Python ${field("python")} on ${systemOf(machine().file)}`,
  ].filter(Boolean).join(", ");

  $("peek").textContent = error ? $("state").textContent : `${$("verdict").textContent}: ${$("state").textContent}`;

  $("error").hidden = !error;
  const named = near(error);
  $("error").replaceChildren(...(error ? problem(named ? { ...error, hint: null } : error) : []));
  $("warnings").hidden = !plan.warnings.length;
  $("warnings").replaceChildren(...plan.warnings.map(({ slug, message }) =>
    element("li", {}, `${message} `, element("code", {}, `[${slug}]`))));
  $("install").hidden = Boolean(error);
  $("share").hidden = $("raw").hidden = false;
  $("why").hidden = !plan.candidates.length;
  matrix();
  const typed = `torchinstall plan --json ${shown(words)}`;
  $("typed").textContent = onWindows() ? `type machine.json | ${typed}` : `${typed} < machine.json`;
  $("json").textContent = text.trimEnd();
}

const VENDORS = { nvidia: "NVIDIA GPU", amd: "AMD GPU", intel: "Intel GPU", apple: "Apple GPU" };
const called = ({ name, vendor }) => name ?? VENDORS[vendor] ?? vendor;
const NAMES = { linux: "Linux", windows: "Windows", macos: "macOS" };
const systemOf = ({ os, arch, libc }) => [NAMES[os], arch, ...(libc ? [`with ${libc.family} ${libc.version}`] : [])].join(" ");

function problem({ message, wanted, found, hint }) {
  const rows = [["needed", wanted], ["found", found]].filter(([, value]) => value);
  const hints = (hint ?? "").split("\n").filter(Boolean);
  return [
    element("p", {}, `${message[0].toUpperCase()}${message.slice(1)}.`.replace(/\.\.$/, ".")),
    element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    ...(hints.length ? [element("p", {}, "What helps:"),
      element("ul", {}, ...hints.map((text) => element("li", {}, element("code", {}, text))))] : []),
  ];
}

/** Names that are like the one that nobody knows, each a button that takes it; whether there are any. */
function near(error) {
  const names = error?.slug === "unknown-gpu"
    ? error.hint.split("\n").map((hint) => hint.match(/^--target-gpu '?([^'(]+?)'?(?: \(.*)?$/)?.[1]).filter(Boolean)
    : [];
  $("gpu").setAttribute("aria-invalid", String(error?.slug === "unknown-gpu"));
  $("gpu-near").hidden = !names.length;
  $("gpu-near").replaceChildren("Did you mean ", ...names.map((name) => element("button", {
    type: "button", className: "near", onclick: () => { $("gpu").value = name; $("gpu").focus(); update(); },
  }, name)));
  return names.length > 0;
}

const onWindows = () => chosenOs() === "windows" && !nodes;

/** Words as they are typed in the shell of the chosen system; whatever they hold, they stay words. */
function shown(words) {
  const quoted = (word) => {
    if (!onWindows()) return `'${word.replaceAll("'", String.raw`'\''`)}'`;
    return /["$`%^&|]/.test(word) ? `'${word.replaceAll("'", "''")}'` : `"${word}"`;
  };
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : quoted(word))).join(" ");
}

// Forms -----------------------------------------------------------------------------------------------------

function showTabs() {
  $("tabs").replaceChildren(...FORMS.map((item, place) => element("button", {
    type: "button", role: "tab", id: `tab-${place}`, "aria-controls": "form", "aria-selected": String(item === form),
    tabIndex: item === form ? 0 : -1, onclick: () => choose(place),
  }, item.name)));
  $("form").setAttribute("aria-labelledby", `tab-${FORMS.indexOf(form)}`);
}

function choose(place, focus = false) {
  form = FORMS[place];
  showTabs();
  if (focus) $(`tab-${place}`).focus();
  busy(showForm(turn));
}

$("tabs").onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  choose((FORMS.indexOf(form) + step + FORMS.length) % FORMS.length, true);
};

async function showForm(mine) {
  if (!plan || plan.error) return;
  const item = form;
  let text = `torchinstall auto ${shown(requirements())}`;
  let hint = item.hint;
  if (item.format) {
    const answer = await run("export --format", question(), item.format);
    if (mine !== turn || item !== form) return;
    text = answer.out || answer.err.split("\n").filter((line) => !line.startsWith("warning[")).join("\n");
    if (answer.code) hint = "The plan cannot be written in this form.";
  }
  const lines = text.trimEnd().split("\n");
  $("code").replaceChildren(...lines.map((line, place) => element("span", { className: "line" },
    line + (place < lines.length - 1 ? "\n" : ""))));
  $("form-hint").textContent = hint;
  $("form").toggleAttribute("data-file", !["pip", "uv", "torchinstall"].includes(item.name));
}

// Reasons ---------------------------------------------------------------------------------------------------

async function showReasons(mine, asking) {
  const best = plan.backend ?? plan.candidates[0]?.backend;
  const answer = best ? await run("plan --json --explain", asking, best) : null;
  if (mine !== turn) return;
  const sentences = answer ? JSON.parse(answer.out).explanation ?? [] : [];
  $("reasons").replaceChildren(...sentences.map((text) => element("li", {}, text)));
}

const MARKS = { chosen: "★", accepted: "✓", rejected: "×" };

function reason({ backend, torch, verdict, rule, wanted, found }) {
  const name = `torch ${torch}, ${backend}`;
  if (verdict === "chosen") return `${name}: chosen.`;
  if (verdict === "accepted") return `${name}: would run here, but another build is better.`;
  const facts_ = [wanted && `needed: ${wanted}`, found && `found: ${found}`].filter(Boolean).join("; ");
  return `${name}: ${facts.rules[rule] ?? rule}${facts_ ? ` (${facts_})` : ""}`;
}

function matrix() {
  const everything = $("all").checked;
  const rows = new Map();
  for (const one of plan.candidates) {
    if (!rows.has(one.backend)) rows.set(one.backend, new Map());
    rows.get(one.backend).set(one.torch, one);
  }
  const foreign = (row) => [...row.values()].every(({ rule }) => rule === "no-gpu-of-vendor" || rule === "backend-not-asked");
  const shownRows = [...rows].filter(([, row]) => everything || !foreign(row));
  const releases = [...new Set(plan.candidates.map((one) => one.torch))];
  const columns = everything ? releases
    : releases.filter((torch) => shownRows.some(([, row]) => row.get(torch)?.verdict !== undefined)).slice(0, 14);
  const kept = shownRows.filter(([, row]) => everything || columns.some((torch) => row.has(torch)));
  $("matrix").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "backend"),
      ...columns.map((torch) => element("th", { scope: "col" }, torch)))),
    element("tbody", {}, ...kept.map(([backend, row]) => element("tr", {},
      element("th", { scope: "row" }, backend),
      ...columns.map((torch) => cell(row.get(torch), backend, torch))))),
  );
  const first = $("matrix").querySelector("td.chosen") ?? $("matrix").querySelector("td");
  if (first) first.tabIndex = 0;
  tell(first);
}

function cell(one, backend, torch) {
  const text = one ? reason(one) : `torch ${torch}, ${backend}: not published for this system.`;
  return element("td", { className: one?.verdict ?? "", title: text, tabIndex: -1 },
    element("span", { "aria-hidden": "true" }, one ? MARKS[one.verdict] : ""),
    element("span", { className: "unseen" }, text));
}

const tell = (at) => ($("cell").textContent = at?.title ?? "");

$("matrix").onpointerover = (event) => tell(event.target.closest("td") ?? $("matrix").querySelector("td[tabindex='0']"));
$("matrix").onclick = (event) => event.target.closest("td")?.focus();
$("matrix").addEventListener("focusin", ({ target }) => {
  for (const old of $("matrix").querySelectorAll("td[tabindex='0']")) old.tabIndex = -1;
  target.tabIndex = 0;
  tell(target);
});
$("matrix").onkeydown = (event) => {
  const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
  const at = event.target.closest("td");
  if (!step || !at) return;
  event.preventDefault();
  const body = at.parentElement.parentElement;
  const row = body.rows[[...body.rows].indexOf(at.parentElement) + step[0]];
  const next = row?.cells[at.cellIndex + step[1]];
  if (next?.tagName === "TD") next.focus();
};

// Pasted text -----------------------------------------------------------------------------------------------

const PASTED = "what nvidia-smi or torchinstall probe --json prints, labels, an inventory, or an error text about torch";

$("paste").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.replace(/\p{Surrogate}/gu, "\ufffd");
  if (text.trim()) busy(taken(text));
  else $("explained").replaceChildren();
};

async function taken(text) {
  const mine = ++source;
  $("explained").replaceChildren();
  const read = await ask("read", text, assumptions());
  if (mine !== source) return;
  if (read.nodes) {
    take(read.nodes);
    say("The machine was read.");
    if (!wide.matches) toAnswer();
  }
  // People paste the error and the machine together.
  const answer = await run("doctor --json --explain -", { file: text, words: [] });
  if (mine !== source) return;
  const { matches, error } = JSON.parse(answer.out);
  if (matches?.length) $("explained").replaceChildren(...matches.map(explained));
  else if (!read.nodes) {
    const said = element("div", { className: "explained" }, ...problem(read.asks ? read.error : { ...error, wanted: PASTED }));
    $("explained").replaceChildren(said);
  }
}
$("text").onpaste = () => setTimeout(() => $("paste").requestSubmit());

/** What the fields say of things that no inventory names. */
function assumptions() {
  const os = chosenOs();
  if (os === "macos") return ["arch=x86_64"]; // such texts come from elsewhere: from a server, as a rule
  const version = field("version").replace(" ", "-");
  return [`arch=${field("arch")}`, ...(os === "linux" || os === "wsl" ? [`libc=${version.replace("glibc-", "")}`] : [])];
}

function explained({ slug, cause, commands, advice, evidence }, place) {
  const id = `command-${place}`;
  return element("div", { className: "explained" },
    element("p", {}, element("strong", {}, slug.replaceAll("-", " ")), `: ${cause}.`),
    ...(commands.length ? [element("div", { className: "code" },
      element("pre", {}, element("code", { id }, commands.join("\n"))),
      element("button", { type: "button", className: "copy", "data-copy": id }, "Copy"))] : []),
    ...(advice ? [element("p", {}, advice)] : []),
    element("p", { className: "hint" }, `Recognised by: “${evidence}”. `,
      ...(docs === undefined ? [] : [element("a", { href: `${docs}errors/${slug}.html` }, "More about it")])));
}

function take(found) {
  nodes = found;
  node = 0;
  $("node").replaceChildren(...nodes.map(({ names }, place) => element("option", { value: place },
    names.length > 1 ? `${names[0]} and ${names.length - 1} more` : names[0])));
  showPasted();
  update();
}

function showPasted() {
  $("pasted").hidden = !nodes;
  $("described").hidden = Boolean(nodes);
  if (!nodes) return;
  const { machine: file, assumed } = nodes[node];
  const counts = new Map();
  for (const name of (file.gpus ?? []).map(called)) counts.set(name, (counts.get(name) ?? 0) + 1);
  const drivers = (file.drivers ?? []).filter(({ version }) => version).map(({ vendor, version }) => `${vendor} driver ${version}`);
  const gpus = [...counts].map(([name, count]) => (count > 1 ? `${count} × ${name}` : name));
  const parts = [systemOf(file), ...drivers, gpus.join(", ") || "no GPU"].filter(Boolean);
  const taken = assumed.filter(({ value }) => value).map(({ fact, value }) => `${fact} ${value}`);
  const missing = assumed.filter(({ value }) => !value).map(({ fact }) => fact);
  $("pasted-text").textContent = [
    `From your text: ${parts.join(", ")}.`,
    taken.length ? ` It does not say, so this is assumed: ${taken.join(", ")}.` : "",
    missing.length ? ` Not known: ${missing.join(", ")}.` : "",
  ].join("");
  $("pasted-pick").hidden = nodes.length < 2;
}

$("node").onchange = () => { node = Number($("node").value); showPasted(); update(); };
$("forget").onclick = () => { source += 1; nodes = null; showPasted(); update(); };

function toAnswer() {
  $("answer").scrollIntoView();
  $("answer").focus({ preventScroll: true });
}
new IntersectionObserver(([{ isIntersecting }]) => ($("peek").hidden = isIntersecting)).observe($("result"));
for (const link of document.querySelectorAll("a[href='#answer']")) {
  link.onclick = (event) => { event.preventDefault(); toAnswer(); }; // the address holds the question
}

// The address, copies and files -----------------------------------------------------------------------------

/** Keep the question in the address, after the #, which no browser sends to a server. */
function remember() {
  const parts = new URLSearchParams();
  if (nodes) {
    parts.set("machine", JSON.stringify(nodes[node].machine));
  } else {
    parts.set("os", chosenOs());
  }
  const described = nodes ? ["python", "backend", "others"] : FIELDS;
  for (const name of described) if (field(name)) parts.set(name, field(name));
  parts.set("packages", [...$("packages").querySelectorAll(":checked")].map((box) => box.value).join(" "));
  history.replaceState(null, "", `#${parts}`);
}

/** Fill the form from the address, and with what it begins with where the address does not say. */
async function recall() {
  const mine = ++source;
  const parts = new URLSearchParams(location.hash.slice(1));
  const unread = [];
  $("machine").reset();
  const os = parts.get("os") ?? guessed();
  if (Object.hasOwn(SYSTEMS, os)) $("machine").elements.os.value = os;
  else {
    unread.push(os);
    $("machine").elements.os.value = guessed();
  }
  systemChanged();
  for (const name of FIELDS) {
    const control = $("machine").elements[name];
    const value = parts.get(name);
    const offered = !control.options || [...control.options].some((option) => option.value === value);
    if (value !== null && offered) control.value = value;
    else if (value) unread.push(value);
  }
  if (parts.has("packages")) {
    const named = parts.get("packages").split(" ");
    for (const box of $("packages").querySelectorAll("input:not(:disabled)")) box.checked = named.includes(box.value);
  }
  nodes = null;
  const pasted = parts.get("machine");
  const read = pasted ? await ask("read", pasted, []) : {};
  if (mine !== source) return;
  if (pasted && !read.nodes) unread.push("its machine");
  $("unread").hidden = !unread.length;
  $("unread").textContent = `The link says what this page does not offer (${unread.join(", ")}): look at the fields.`;
  if (read.nodes) take(read.nodes);
  else { showPasted(); update(); }
}

function guessed() {
  const told = navigator.userAgentData?.platform ?? navigator.platform ?? "";
  return /^win/i.test(told) ? "windows" : /^mac/i.test(told) ? "macos" : "linux";
}

function systemChanged() {
  const os = chosenOs();
  for (const [id, values] of [["arch", SYSTEMS[os].archs], ["version", SYSTEMS[os].versions]]) {
    const before = $(id).value;
    $(id).replaceChildren(...Object.entries(values).map(([value, text]) => element("option", { value }, text)));
    if (before in values) $(id).value = before;
    else if (os === "macos" && id === "version") $(id).value = "15.3";
    else $(id).selectedIndex = 0;
  }
  for (const part of document.querySelectorAll("[data-hide]")) part.hidden = part.dataset.hide === os;
}

async function copy(text, button, after = "Copied") {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  say(`${after}.`);
  const before = (button.dataset.before ??= button.textContent);
  button.textContent = after;
  setTimeout(() => (button.textContent = before), 1500);
}

document.addEventListener("click", ({ target }) => {
  const id = target.dataset?.copy;
  if (id) copy($(id).textContent, target);
});
$("link").onclick = () => copy(location.href, $("link"), "Link copied");
$("save").onclick = () => {
  const url = URL.createObjectURL(new Blob([question().file], { type: "application/json" }));
  element("a", { href: url, download: "machine.json" }).click();
  URL.revokeObjectURL(url);
};

// Start -----------------------------------------------------------------------------------------------------

let typing = 0;
$("machine").oninput = ({ target }) => {
  if (target.name === "os") systemChanged();
  $("unread").hidden = true;
  clearTimeout(typing);
  if (facts && target.id !== "node") typing = setTimeout(update, target.list || target.name === "others" ? 250 : 0);
};
$("machine").onsubmit = (event) => { event.preventDefault(); update(); };
$("all").onchange = matrix;

$("machine").elements.os.value = guessed();
systemChanged();
showTabs();
try {
  facts = await ask("facts");
  $("gpus").replaceChildren(...Object.values(facts.gpus).flat().map((value) => element("option", { value })));
  $("drivers").replaceChildren(...facts.drivers.toReversed().map((value) => element("option", { value })));
  $("python").replaceChildren(...facts.pythons.toReversed().map((value) =>
    element("option", { value, defaultSelected: value === "3.12" }, value)));
  $("backend").append(...facts.backends.map((value) => element("option", { value }, value)));
  $("about").append(` torchinstall ${facts.version}, tables of ${facts.snapshot}.`);
  if (docs !== undefined) $("about").append(" ", element("a", { href: `${docs}index.html` }, "Documentation"));
  addEventListener("hashchange", () => busy(recall()));
  await recall();
} catch (error) {
  failed(error);
}
