// Weights on a click: before a run that lacks some, one window says what, how large and under which licence.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { after, allNodes, ask, h, setting, toast, widgetNamed } from "./common.mjs";
import { openDialog } from "./dialog.mjs";

const MIRROR = "Face2Diffusion.Fetch.Mirror";
const POLL_MS = 400;
const LOADERS = { F2DLoadMSIDEncoder: "msid", F2DLoadMapping: "mapping", F2DLoadExpressionEncoder: "recon" };
const DETECTORS = ["yunet", "insightface", "facexlib"];
const BUSY = ["running", "stopping"];
const CHECKS = { keys: "keys and shapes", size: "size" }; // what the server compares where no hash is published
const [ALL_THERE, ANYWAY] = ["done", "anyway"]; // answers of the window that let a run go on
const SHORT = 8; // characters of a hash
const SWITCHED_OFF = [2, 4]; // LiteGraph's modes of nodes that are muted or bypassed

// --- what a run lacks ---

/** Kinds of the catalogue that the nodes of the open workflow need and that are not there. */
function lacking(files) {
  const rows = Object.fromEntries(files.map((row) => [row.kind, row]));
  const needed = activeNodes().flatMap((node) => [neededFile(node, rows), neededDetector(node, rows)]);
  return [...new Set(needed)].filter((kind) => kind && !rows[kind].here);
}

function activeNodes() {
  return allNodes().filter((node) => !SWITCHED_OFF.includes(node.mode));
}

/** The kind that a loader wants, if it wants the published file; of others nothing is known. */
function neededFile(node, rows) {
  const kind = LOADERS[node.comfyClass];
  return kind && widgetNamed(node, "file")?.value === rows[kind].file ? kind : null;
}

function neededDetector(node, rows) {
  const chosen = node.comfyClass?.startsWith("F2D") ? widgetNamed(node, "detector")?.value : undefined;
  const given = node.inputs?.some((input) => ["faces", "face_landmarks"].includes(input.name) && input.link != null);
  if (!chosen || given) return null;
  if (chosen !== "auto") return DETECTORS.includes(chosen) ? chosen : null;
  return DETECTORS.some((kind) => rows[kind].here) ? null : DETECTORS[0];
}

/** What else would stop the run, that is not ours to fetch. */
function otherwiseLacking() {
  const loaders = activeNodes().filter((node) => node.comfyClass === "CheckpointLoaderSimple");
  const wrong = loaders.filter((node) => {
    const widget = widgetNamed(node, "ckpt_name");
    return !widget?.options?.values?.includes?.(widget.value);
  });
  return wrong.length
    ? "Besides, Load Checkpoint needs a Stable Diffusion 1.x checkpoint of yours: put one into models/checkpoints and choose it there."
    : "";
}

// --- before a run ---

const ANSWERED = Promise.resolve();
const CANCELLED = new Error("The run was cancelled: files are missing.");
let asking = ANSWERED; // what every node of ours waits for while a prompt is put together; null: a run begins

/**
 * Widgets are asked for their values when a run begins, one after the other: they wait while the user is asked. They are
 * asked for an export too, which waits for nobody.
 */
function waitFor(widget) {
  after(widget, "beforeQueued", () => (asking = null));
  const own = widget.serializeValue;
  widget.serializeValue = async function (...values) {
    asking ??= askBeforeRun();
    await asking;
    return own ? own.apply(this, values) : widget.value;
  };
}

/** Throws CANCELLED when the user does not want the run any more. */
async function askBeforeRun() {
  let answer = ALL_THERE;
  try {
    const { files } = await ask("/f2d/weights");
    const kinds = lacking(files);
    if (kinds.length) answer = await offer(kinds, true);
  } catch (error) {
    console.warn("face2diffusion:", error.message); // then the server says what is missing, as it does for scripts
  }
  if (answer === null) throw CANCELLED;
}

/** A run that the user has cancelled ends here, as one that was not queued: the frontend would show an error. */
function letRunsBeCancelled() {
  const own = app.queuePrompt;
  let calls = 0; // a second one, made during the first, returns before it
  app.queuePrompt = async function (...values) {
    calls += 1;
    try {
      return await own.apply(this, values);
    } catch (error) {
      if (error !== CANCELLED) throw error;
      return false;
    } finally {
      calls -= 1;
      if (!calls) asking = ANSWERED;
    }
  };
}

/** A run that failed because of a file which no widget names: its message does. */
async function offerAfter({ detail }) {
  if (!detail?.node_type?.startsWith("F2D")) return;
  const { files } = await ask("/f2d/weights");
  const named = files.filter((row) => !row.here && detail.exception_message?.includes(`Put ${row.file} (`));
  if (named.length) await offer(named.map((row) => row.kind), false);
}

// --- the window ---

/**
 * Show these kinds; resolves when the window is closed. waiting: a run goes on when everything is there (ALL_THERE), or
 * as it is (ANYWAY); null when it was cancelled.
 */
export async function offer(kinds, waiting) {
  const view = new Offer(kinds, waiting);
  await view.refresh();
  return view.open();
}

class Offer {
  constructor(kinds, waiting) {
    this.kinds = kinds;
    this.waiting = waiting;
    this.rows = h("ul", { className: "f2d-files" });
    this.drawn = new Map();
    this.all = h("button", { type: "button", className: "f2d-main", onclick: () => this.fetchable.forEach((kind) => this.start(kind)) });
    this.problem = h("p", { className: "f2d-problem", role: "alert" });
    const other = waiting ? otherwiseLacking() : "";
    this.content = h(
      "div",
      {},
      h("p", { textContent: waiting ? "This run needs files that are not there yet." : "Files that are not there yet." }),
      this.rows,
      this.note = h("p", { className: "f2d-quiet" }),
      other ? h("p", { textContent: other }) : null,
      this.problem,
    );
  }

  async open() {
    const buttons = [
      { label: this.waiting ? "Cancel" : "Close", act: (dialog) => this.leave(dialog) },
      ...(this.waiting ? [{ label: "Run anyway", value: ANYWAY }] : []),
      { label: "Look again", act: () => this.refresh() },
    ];
    const ready = (dialog) => {
      this.dialog = dialog;
      if (this.waiting) dialog.querySelector(".f2d-answers").append(this.all);
      dialog.addEventListener("cancel", () => this.waiting && this.stopAll());
      this.draw();
      (this.waiting ? this.all : this.rows.querySelector("button"))?.focus();
    };
    const timer = setInterval(() => this.busy && this.refresh(), POLL_MS);
    const answer = await openDialog({ title: "Files to download", content: this.content, buttons, ready });
    clearInterval(timer);
    if (this.fetched) await app.reloadNodeDefs?.(); // the lists of files in nodes
    return answer;
  }

  leave(dialog) {
    if (this.waiting) this.stopAll();
    dialog.close();
  }

  stopAll() {
    for (const kind of this.kinds) if (this.state(kind)?.state === "running") this.stop(kind);
  }

  get mirror() {
    return (setting(MIRROR) ?? "").trim();
  }

  get missing() {
    return this.files.filter((row) => this.kinds.includes(row.kind) && !row.here);
  }

  get fetchable() {
    return this.missing.filter((row) => this.canFetch(row) && !BUSY.includes(this.state(row.kind)?.state)).map((row) => row.kind);
  }

  get busy() {
    return this.kinds.some((kind) => BUSY.includes(this.state(kind)?.state));
  }

  canFetch(row) {
    return this.mirror ? row.mirrored : row.fetchable;
  }

  state(kind) {
    return this.states?.find((state) => state.kind === kind);
  }

  async refresh() {
    const [{ fetches }, { files, folder }] = await Promise.all([ask("/f2d/fetch"), ask("/f2d/weights")]);
    this.states = fetches;
    this.files = files;
    this.folder = folder;
    if (this.dialog) this.draw();
    if (this.dialog && this.waiting && !this.missing.length && !this.busy) {
      toast("success", "All files are there", "The run goes on.");
      this.dialog.close(ALL_THERE);
    }
  }

  async start(kind) {
    await this.try(() => ask("/f2d/fetch", { kind, mirror: this.mirror }));
    this.fetched = true;
  }

  stop(kind) {
    return this.try(() => ask("/f2d/fetch/stop", { kind }));
  }

  async try(act) {
    this.problem.textContent = "";
    try {
      await act();
      await this.refresh();
    } catch (error) {
      this.problem.textContent = error.message;
    }
  }

  draw() {
    const rows = this.files.filter((row) => this.kinds.includes(row.kind));
    for (const row of rows) this.drawRow(row);
    const kinds = this.fetchable;
    const size = this.missing.filter((row) => kinds.includes(row.kind)).reduce((sum, row) => sum + row.megabytes, 0);
    this.all.textContent = `Download ${kinds.length > 1 ? "all, " : ""}${megabytes(size)}`;
    this.all.hidden = !kinds.length;
    const where = this.mirror ? `from the mirror ${this.mirror}` : "from where they are published";
    this.note.textContent = `They come ${where} into ${this.folder}. Nothing is downloaded before you say so. A mirror can be set in Settings, Face2Diffusion.`;
  }

  /** Only what has changed is drawn again, so that the focus stays. */
  drawRow(row) {
    const known = this.state(row.kind);
    const state = row.here && !BUSY.includes(known?.state) ? { ...known, state: "here" } : known;
    const look = JSON.stringify([state?.state, row.here, state?.error, state?.sha256]);
    const old = this.drawn.get(row.kind);
    if (old?.look !== look) {
      const element = this.row(row, state);
      old ? old.element.replaceWith(element) : this.rows.append(element);
      this.drawn.set(row.kind, { element, look });
    }
    const bar = this.drawn.get(row.kind).element.querySelector("progress");
    if (bar && state.total) {
      bar.max = state.total;
      bar.value = state.done;
      bar.nextSibling.textContent = ` ${megabytes(state.done / 1e6)} of ${megabytes(state.total / 1e6)}`;
    }
  }

  row(row, state) {
    const terms = `Licence: ${row.licence}. Commercial use: ${row.commercial ? "yes" : "no"}.`;
    return h(
      "li",
      { "data-kind": row.kind, "data-state": state?.state ?? "missing" },
      h("strong", { textContent: row.title }),
      h("span", { textContent: `${row.file}, ${megabytes(row.megabytes)}` }),
      h("span", { textContent: terms }),
      this.hash(row, state),
      h("span", { className: "f2d-quiet" }, ...linked(row.where)),
      this.action(row, state),
    );
  }

  /** Which hash its makers published, or how it is checked without one; and the hash of what came. */
  hash(row, state) {
    const own = state?.state === "here" ? state.sha256 : "";
    if (row.sha256) return h("span", { title: row.sha256, textContent: `SHA-256 ${short(row.sha256)}${own ? ", as published" : ""}` });
    const checked = this.canFetch(row) || row.checked === "keys" ? `: checked by ${CHECKS[row.checked]}` : ""; // by hand, nobody looks at the size
    return h("span", { title: own, textContent: `no published hash${checked}${own ? `; it has SHA-256 ${short(own)}` : ""}` });
  }

  action(row, state) {
    const button = (label, onclick) => h("button", { type: "button", textContent: label, "aria-label": `${label} ${row.file}`, onclick });
    if (state?.state === "here") return h("span", { className: "f2d-good", textContent: "It is there." });
    if (BUSY.includes(state?.state)) {
      const bar = h("progress", { "aria-label": `${row.file} is coming` });
      const stop = button("Stop", () => this.stop(row.kind));
      stop.disabled = state.state === "stopping";
      return h("span", { className: "f2d-bar" }, bar, h("span", { className: "f2d-quiet" }), stop);
    }
    if (!this.canFetch(row)) {
      const why = row.fetchable ? "Not from a mirror, where other files bear the same name" : "Only to be had by hand";
      return h("span", { className: "f2d-quiet", textContent: `${why}: get it from the address above and put it into ${this.folder}.` });
    }
    const problem = state?.error ? h("span", { className: "f2d-problem", textContent: state.error }) : null;
    const label = state?.state === "stopped" ? "Go on" : state?.error ? "Try again" : "Download";
    return h("span", { className: "f2d-bar" }, button(label, () => this.start(row.kind)), problem);
  }
}

/** Text with its web addresses as links. */
export function linked(text) {
  return text.split(/(https?:\/\/[^\s,)]+)/).map((part, i) =>
    i % 2 ? h("a", { href: part, target: "_blank", rel: "noopener noreferrer", textContent: part }) : part,
  );
}

function short(hash) {
  return `${hash.slice(0, SHORT)}…`;
}

export function megabytes(value) {
  return value >= 1000 ? `${(value / 1000).toFixed(1)} GB` : `${value >= 10 ? Math.round(value) : Math.round(value * 10) / 10} MB`;
}

async function offerAll() {
  const { files } = await ask("/f2d/weights");
  const kinds = files.filter((row) => !row.here).map((row) => row.kind);
  if (kinds.length) await offer(kinds, false);
  else toast("success", "Face2Diffusion", "All published files are there.");
}

export const fetching = {
  settings: [
    {
      id: MIRROR,
      category: ["Face2Diffusion", "Download", "Mirror"],
      name: "Mirror for downloads",
      tooltip: "An address below which the published files lie under their names, such as https://example.org/weights. Empty: from where they are published.",
      type: "text",
      defaultValue: "",
    },
  ],
  commands: [{ id: "Face2Diffusion.Download", label: "Face2Diffusion: Download missing files", icon: "pi pi-download", function: offerAll }],
  menuCommands: [{ path: ["Extensions", "Face2Diffusion"], commands: ["Face2Diffusion.Download"] }],
  nodeCreated(node) {
    const widget = node.comfyClass in LOADERS ? widgetNamed(node, "file") : node.comfyClass?.startsWith("F2D") && widgetNamed(node, "detector");
    if (widget) waitFor(widget);
  },
  setup() {
    letRunsBeCancelled();
    api.addEventListener("execution_error", (event) => offerAfter(event).catch((error) => console.warn("face2diffusion:", error.message)));
  },
};
