// The page of a leanrec server: search, history, budget, recommendations. No build step, no requests to anyone else.
const at = (id) => document.getElementById(id);
const history = [];
const times = [];
let model = null;
let key = sessionStorage.getItem("leanrec-key") || "";
let found = [];
let chosen = -1;
let asked = 0;
let searched = 0;

async function call(path, body) {
  const headers = key ? { "X-API-Key": key } : {};
  const options = body ? { method: "POST", body: JSON.stringify(body), headers: { ...headers, "Content-Type": "application/json" } } : { headers };
  const reply = await fetch(path, options);
  const content = await reply.json();
  if (reply.status === 401) at("key").hidden = false;
  if (!reply.ok) throw new Error(content.detail || reply.statusText);
  return content;
}

function element(tag, text, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) made.textContent = text;
  return made;
}

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

async function start() {
  try {
    model = await call("v1/model");
  } catch (error) {
    at("model").textContent = error.message;
    return;
  }
  const routes = model.routes.length;
  at("model").textContent = `${model.path} · ${model.model} · ${model.items.toLocaleString("en")} items · ${routes} route${routes > 1 ? "s" : ""}`;
  if (model.budgets) {
    const { least, usual, most } = model.budgets;
    Object.assign(at("budget"), { min: Math.ceil(least * 1000) / 1000, max: Math.max(usual, most).toFixed(3), step: 0.001, value: usual.toFixed(3) });
    at("budget-note").textContent = `From ${percent(least)}, its cheapest route, to ${percent(most)}; ${percent(usual)} is usual.`;
    at("dial").hidden = false;
    budgetText();
  }
}

const budgetText = () => { at("budget-text").textContent = percent(Number(at("budget").value)); };

async function search() {
  const turn = ++searched;
  const query = at("search").value.trim();
  if (!query) return close();
  let items;
  try {
    ({ items } = await call(`v1/items?limit=12&q=${encodeURIComponent(query.slice(0, 500))}`));
  } catch (error) {
    at("status").textContent = error.message;
    return;
  }
  if (turn !== searched) return;
  found = items;
  chosen = items.length ? 0 : -1;
  const list = items.map((item, row) => {
    const line = element("li", item.title, { id: `found-${row}` });
    if (item.title !== item.item) line.append(" ", element("small", item.item));
    line.setAttribute("role", "option");
    line.addEventListener("pointerdown", (event) => { event.preventDefault(); add(item); });
    return line;
  });
  at("found").replaceChildren(...(list.length ? list : [element("li", "Nothing has all of these words")]));
  at("found").hidden = false;
  at("search").setAttribute("aria-expanded", "true");
  mark();
}

function mark() {
  [...at("found").children].forEach((line, row) => line.setAttribute("aria-selected", String(row === chosen)));
  if (chosen >= 0) {
    at("search").setAttribute("aria-activedescendant", `found-${chosen}`);
    at(`found-${chosen}`).scrollIntoView({ block: "nearest" });
  } else at("search").removeAttribute("aria-activedescendant");
}

function close() {
  ++searched;
  found = [];
  chosen = -1;
  at("found").hidden = true;
  at("search").setAttribute("aria-expanded", "false");
  at("search").removeAttribute("aria-activedescendant");
}

function add(...items) {
  history.push(...items);
  at("search").value = "";
  close();
  changed();
}

function changed() {
  at("history").replaceChildren(...history.map((item, row) => {
    const line = element("li", item.title + " ");
    const remove = element("button", "remove", { type: "button", className: "remove", ariaLabel: `Remove ${item.title}` });
    remove.addEventListener("click", () => {
      history.splice(row, 1);
      changed();
      (at("history").querySelectorAll("button")[Math.min(row, history.length - 1)] || at("search")).focus();
    });
    line.append(remove);
    return line;
  }));
  at("empty").hidden = history.length > 0;
  at("clear").hidden = !history.length;
  at("history").scrollTop = at("history").scrollHeight;
  recommend();
}

async function recommend() {
  const turn = ++asked;
  if (!history.length) {
    at("answer").hidden = true;
    at("status").textContent = "Add an item to see what may follow.";
    return;
  }
  const body = { history: history.map((item) => item.item), k: Math.min(10, model ? model.items : 10), exclude_seen: at("seen").checked };
  if (model && model.budgets) body.budget = Number(at("budget").value);
  const began = performance.now();
  let answer;
  try {
    answer = await call("v1/recommend", body);
  } catch (error) {
    if (turn === asked) at("status").textContent = error.message;
    return;
  }
  const took = performance.now() - began;
  times.push(took);
  latency();
  if (turn === asked) show(answer, took);
}

function show(answer, took) {
  at("answer").hidden = false;
  at("status").textContent = `${answer.items.length} items after ${history.length} of history.`;
  at("route").textContent = answer.route;
  at("cost").textContent = `${percent(answer.flops_ratio)} of the full model`;
  at("time").textContent = `${took.toFixed(1)} ms`;
  at("meter").firstElementChild.style.width = `${Math.min(100, 100 * answer.flops_ratio)}%`;
  at("meter").setAttribute("aria-label", `${percent(answer.flops_ratio)} of the full model's cost`);
  layers(answer.route);
  at("items").replaceChildren(...answer.items.map((item) => {
    const line = element("li", item.title + " ");
    line.append(element("small", item.score.toFixed(2)));
    return line;
  }));
}

// A route such as e32-w64-l0.2.5 names the blocks that run; every route together names all that there are.
function layers(route) {
  const kept = (name) => { const part = /(?:^|-)l([\d.]*)$/.exec(name); return part && part[1].split(".").filter(Boolean).map(Number); };
  const all = new Set(model.routes.flatMap(({ route: name }) => kept(name) || []));
  const mine = kept(route);
  const rows = [...all].sort((one, other) => one - other).map((block) => {
    const on = !mine || mine.includes(block);
    return element("span", String(block + 1), { className: on ? "on" : "" });
  });
  at("layers").replaceChildren(...rows);
  at("layers").hidden = !rows.length;
  at("layers").setAttribute("aria-label", mine ? `Blocks that ran: ${mine.map((block) => block + 1).join(", ") || "none"}` : "All blocks ran");
}

function latency() {
  const last = times.slice(-60);
  const most = Math.max(...last);
  const sorted = [...last].sort((one, other) => one - other);
  at("latency-text").textContent = `${last.length} request${last.length > 1 ? "s" : ""}: median ${sorted[Math.floor(sorted.length / 2)].toFixed(1)} ms, slowest ${most.toFixed(1)} ms, network included.`;
  const bars = last.map((time, row) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = Math.max(1, (58 * time) / most);
    for (const [name, value] of Object.entries({ x: row * 5, y: 60 - height, width: 4, height })) bar.setAttribute(name, value);
    return bar;
  });
  at("latency").replaceChildren(...bars);
  at("latency").removeAttribute("hidden");
}

at("search").addEventListener("input", search);
at("search").addEventListener("blur", close);
at("search").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && found.length) {
    event.preventDefault();
    chosen = (chosen + step + found.length) % found.length;
    mark();
  } else if (event.key === "Enter" && chosen >= 0) {
    event.preventDefault();
    add(found[chosen]);
  } else if (event.key === "Escape") close();
});
at("sample").addEventListener("click", async () => {
  try {
    add(...(await call("v1/items?limit=5")).items);
  } catch (error) {
    at("status").textContent = error.message;
  }
});
at("clear").addEventListener("click", () => { history.length = 0; changed(); at("search").focus(); });
at("seen").addEventListener("change", recommend);
at("budget").addEventListener("input", () => { budgetText(); recommend(); });
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key-text").value;
  sessionStorage.setItem("leanrec-key", key);
  at("key").hidden = true;
  start().then(recommend);
});
start();
