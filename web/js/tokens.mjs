// The token view: the prompt as the text encoder reads it, every S* a coloured chip; and what is wrong with it, before
// the queue is pressed.
import { api } from "../../../scripts/api.js";
import { addPanel, after, allNodes, ask, debounced, fit, focusPanel, h, onChange, setting, setWidget, showPanel, sourceOf, textOf, toast, widgetNamed } from "./common.mjs";

const SETTING = "Face2Diffusion.TokenView.Enabled";
const ALL_PEOPLE = ["s_star", "s_star_2", "s_star_3", "s_star_4"];
// Nodes with a prompt -> the inputs of the people whose markers must stand in it.
const KINDS = { F2DInject: ALL_PEOPLE, F2DDelayedSubject: ALL_PEOPLE, F2DSchedule: ["s_star"] };
const APPLY = "F2DApplyToClip";
const MIN_PX = 92;
// Kinds of problems -> what is said of them when a run begins.
const TITLES = {
  missing: "A person is missing in the prompt",
  misspelt: "A marker is misspelt in the prompt",
  shared: "Two people share a marker",
  error: "A prompt could not be checked",
};
// Dark text is readable on all of them; told apart by colour-blind people as well (after Okabe and Ito).
const COLOURS = ["#ffb400", "#6ac1f0", "#37c99b", "#f39ac7", "#f0e442", "#b9a5ff", "#ff8f66", "#b5d96b"];
const views = new Set();

// --- who is meant ---

/** A person as the route asks for one: {marker} or {file, marker}, with name; null where it cannot be known. */
function personAt(node, input, depth = 0) {
  const source = sourceOf(node, input)?.node;
  if (!source || depth > 32) return null;
  const marker = widgetNamed(source, "marker") ? textOf(source, "marker") : "";
  if (marker === null) return null;
  const name = (widgetNamed(source, "name") && textOf(source, "name")) || "";
  if (source.comfyClass === "F2DLoadSStar") {
    const file = textOf(source, "file");
    return file === null ? null : { file, marker, name: file.replace(/\.safetensors$/, "") };
  }
  if (marker.trim()) return { marker, name };
  const before = source.inputs?.some((each) => each.name === "s_star") ? personAt(source, "s_star", depth + 1) : null;
  return before && { ...before, name: name || before.name };
}

/** People that the CLIP knows already (Apply S* to CLIP); their markers may stand in the prompt and need not. */
function peopleOfClip(node, depth = 0) {
  const source = sourceOf(node, "clip")?.node;
  if (!source || depth > 32) return [];
  const earlier = peopleOfClip(source, depth + 1);
  return source.comfyClass === APPLY ? [...earlier, ...connected(source, ALL_PEOPLE)] : earlier;
}

function connected(node, inputs) {
  return inputs.filter((name) => sourceOf(node, name)).map((name) => personAt(node, name));
}

// --- the view ---

class TokenView {
  constructor(node) {
    this.node = node;
    this.problems = [];
    this.asked = "";
    this.said = h("div", { role: "status", "aria-live": "polite" });
    this.chunks = h("div", { className: "f2d-chunks", tabIndex: 0, role: "region", "aria-label": "Tokens" });
    this.element = h("div", { className: "f2d-tokens", role: "group", "aria-label": "Token view" }, this.said, this.chunks);
    this.panel = addPanel(node, "token_view", this.element, MIN_PX);
    const refresh = debounced(() => this.refresh(), 250);
    onChange(node, refresh);
    after(node, "onRemoved", () => views.delete(this));
    views.add(this);
    refresh();
  }

  /** Ask again, if anything that counts has changed. */
  async refresh() {
    showPanel(this.panel, setting(SETTING));
    if (this.panel.hidden || !this.node.graph) return;
    const question = this.question();
    const asked = JSON.stringify(question);
    if (asked === this.asked) return;
    this.asked = asked;
    const answer = await this.answered(question);
    if (asked === this.asked) this.draw(question, answer); // else a newer question is on its way
  }

  question() {
    const own = connected(this.node, KINDS[this.node.comfyClass]);
    const people = [...own, ...peopleOfClip(this.node)];
    return { text: textOf(this.node, "text"), people, required: own.length };
  }

  async answered({ text, people }) {
    if (text === null) return { note: "The prompt comes from another node; its tokens are known when it runs." };
    const known = people.filter(Boolean);
    try {
      return await ask("/f2d/tokens", { text, people: known.map(({ name, ...person }) => person) });
    } catch (error) {
      return { error: error.message };
    }
  }

  draw(question, answer) {
    const known = question.people.filter(Boolean);
    this.problems = answer.error ? [{ kind: "error", text: answer.error }] : answer.chunks ? problemsOf(question, answer) : [];
    const hints = answer.chunks ? hintsOf(question, answer) : [];
    this.said.replaceChildren(...this.lines(question, answer), ...hints.map(quietly));
    this.chunks.replaceChildren(...(answer.chunks ?? []).map((chunk, i) => chunkOf(chunk, i, answer, known)));
    this.element.dataset.state = this.problems.length ? "bad" : "good";
    fit(this.node);
  }

  lines(question, answer) {
    if (this.problems.length) return this.problems.map((problem) => this.line(problem));
    if (answer.note) return [quietly(answer.note)];
    if (!question.people.length) return [quietly("Connect a person to s_star.")];
    const unknown = question.people.includes(null) ? " One person's marker is known when it runs." : "";
    const tokens = answer.chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const chunks = answer.chunks.length === 1 ? "1 chunk" : `${answer.chunks.length} chunks`;
    return [quietly(`${tokens} tokens in ${chunks} of 75.${unknown}`)];
  }

  line({ text, label, fix }) {
    const button = fix && h("button", { type: "button", onclick: () => this.mend(fix) }, label);
    return h("div", { className: "f2d-bad" }, text, button ? " " : null, button ?? null);
  }

  mend(fix) {
    setWidget(this.node, "text", fix(textOf(this.node, "text")));
    this.refresh().then(() => this.chunks.focus());
  }
}

function quietly(text) {
  return h("div", { className: "f2d-quiet" }, text);
}

/** Where the people that the answer speaks of stand among all. */
function placesOf(people) {
  return people.map((person, i) => person && i).filter((i) => i !== null);
}

/** How a person of the answer is called: marker and name. */
function nameOf(i, people, answer) {
  const { name } = people[placesOf(people)[i]];
  return answer.people[i].marker + (name ? ` (${name})` : "");
}

/** What would stop the node, or leave somebody out: [{kind, text, label, fix}]. */
function problemsOf({ people, required }, answer) {
  const places = placesOf(people);
  const name = (i) => nameOf(i, people, answer);
  const near = (i) => answer.near.filter((miss) => miss.person === i);
  const shared = answer.shared.map((i) => ({ kind: "shared", text: `Two people share the marker ${name(i)}: give one another marker.` }));
  const missing = answer.missing.filter((i) => places[i] < required && !answer.shared.includes(i));
  const lost = missing.filter((i) => !near(i).length).map((i) => ({
    kind: "missing",
    text: `${name(i)} does not stand in the prompt.`,
    label: `Add ${answer.people[i].marker}`,
    fix: (text) => `${text.trimEnd()} ${answer.people[i].marker}`.trimStart(),
  }));
  const misspelt = answer.near.filter(({ person }) => answer.missing.includes(person)).map(({ text: found, person }) => ({
    kind: "misspelt",
    text: `“${found}” is not ${name(person)}${missing.includes(person) ? ", which does not stand in the prompt" : ""}.`,
    label: `Write ${answer.people[person].marker}`,
    fix: (text) => replaced(text, found, answer.people[person].marker),
  }));
  return [...shared, ...lost, ...misspelt];
}

/** What looks like the marker of somebody who stands in the prompt: perhaps meant, perhaps another word. */
function hintsOf({ people }, answer) {
  const near = answer.near.filter(({ person }) => !answer.missing.includes(person));
  return near.map(({ text, person }) => `“${text}” is not ${nameOf(person, people, answer)}; it stays a word of its own.`);
}

/** `found` where it stands by itself, set apart by blanks where it is part of a word. */
function replaced(text, found, marker) {
  const escaped = found.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return text.replace(new RegExp(`(?<!\\w)${escaped}(?!\\w)`, "g"), () => marker);
}

function chunkOf(chunk, number, answer, known) {
  const label = `Chunk ${number + 1}, ${chunk.length} of 75 tokens`;
  const chips = chunk.map((token, i) => chip(token, chunk[i - 1], answer, known));
  const head = answer.chunks.length > 1 ? [h("li", { className: "f2d-border" }, label)] : [];
  return h("ol", { className: "f2d-chunk", "aria-label": label }, head, chips);
}

function chip({ text, weight, person }, before, answer, known) {
  const scaled = weight === 1 ? null : h("sup", {}, `×${Number(weight.toFixed(3))}`);
  if (person === null) return h("li", {}, text, scaled);
  const next = before?.person === person;
  const { marker, words } = answer.people[person];
  const who = known[person].name || marker;
  const title = `${who}: one of ${words} word vectors that stand for ${marker}${scaled ? `, weight ${weight}` : ""}`;
  const item = h("li", { className: `f2d-chip${next ? " f2d-next" : ""}`, title }, next ? "·" : labelOf(marker, known[person].name), scaled);
  item.style.setProperty("--f2d-person", COLOURS[person % COLOURS.length]);
  return item;
}

function labelOf(marker, name) {
  return name && name !== marker ? `${marker} ${name}` : marker;
}

/** One message for each kind of problem that the prompts of this run have; of each node, the first. */
function warn() {
  const bad = [...views].filter((view) => view.problems.length && setting(SETTING) && isRun(view.node));
  for (const [kind, title] of Object.entries(TITLES)) {
    const found = bad.filter((view) => view.problems[0].kind === kind);
    const lines = found.map((view) => `${view.node.title} (#${view.node.id}): ${view.problems[0].text}`);
    if (lines.length) toast("warn", title, lines.join("\n"));
  }
}

function isRun(node) {
  return allNodes().includes(node) && node.mode === LiteGraph.ALWAYS;
}

export const tokens = {
  settings: [
    {
      id: SETTING,
      name: "Token view below prompts with S*",
      tooltip: "Shows the prompt as tokens, and warns when a marker is missing or misspelt.",
      category: ["Face2Diffusion", "Panels on nodes", "Token view"],
      type: "boolean",
      defaultValue: true,
      onChange: () => setTimeout(() => views.forEach((view) => view.refresh())), // the new value is there then
    },
  ],
  commands: [
    {
      id: "Face2Diffusion.FocusTokenView",
      label: "Face2Diffusion: go to the token view",
      icon: "pi pi-align-left",
      function: () => focusPanel(Object.keys(KINDS), ".f2d-chunks"),
    },
  ],
  keybindings: [{ commandId: "Face2Diffusion.FocusTokenView", combo: { key: "t", alt: true, shift: true } }],
  nodeCreated(node) {
    if (node.comfyClass in KINDS) new TokenView(node);
  },
  setup() {
    api.addEventListener("promptQueueing", warn);
  },
};
