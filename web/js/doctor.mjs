// The doctor: what is in order and what is missing, in a tab at the bottom of the window.
import { app } from "../../../scripts/app.js";
import { addPanel, after, ask, fit, h, toast } from "./common.mjs";
import { linked, megabytes, offer } from "./fetch.mjs";

const TAB = "f2d-doctor";
const NODE = "F2DDoctor";
const NODE_PX = 220;

class Doctor {
  constructor(root) {
    this.body = h("div", { className: "f2d-examined" });
    this.again = h("button", { type: "button", textContent: "Look again", onclick: () => this.examine() });
    this.copy = h("button", { type: "button", textContent: "Copy report", onclick: () => this.copyReport(), disabled: true });
    const bar = h("div", { className: "f2d-bar" }, h("strong", { textContent: "Face2Diffusion doctor" }), this.again, this.copy);
    root.replaceChildren(h("section", { className: "f2d f2d-doctor", "aria-label": "Doctor" }, bar, this.body));
    this.examine();
  }

  async examine() {
    this.again.disabled = true;
    this.body.setAttribute("aria-busy", "true");
    this.body.replaceChildren(h("p", { role: "status", textContent: "Looking at versions, packages and weights; large files take a while the first time …" }));
    try {
      this.draw(await ask("/f2d/doctor"));
    } catch (error) {
      this.body.replaceChildren(h("p", { className: "f2d-problem", role: "alert", textContent: error.message }));
    }
    this.body.removeAttribute("aria-busy");
    this.again.disabled = false;
  }

  draw(report) {
    this.report = report.text;
    this.copy.disabled = false;
    const verdict = report.text.split("\n").at(-1);
    this.body.replaceChildren(
      h("p", { className: report.passed ? "f2d-good" : "f2d-problem", role: "status", textContent: verdict }),
      h(
        "figure",
        {},
        h("img", { src: report.picture, alt: "The self-test: a test picture with five points, the crop made of them, two words as stripes" }),
        h("figcaption", { className: "f2d-quiet", textContent: "Self-test: picture, crop, words" }),
      ),
      h("pre", { textContent: beforeWeights(report.text), tabIndex: 0, "aria-label": "Versions and packages" }),
      this.table(report),
    );
  }

  table({ files, found }) {
    const head = ["File", "Size", "SHA-256", "Licence", ""].map((text) => h("th", { textContent: text, scope: "col" }));
    const rows = files.flatMap((row) => {
      const here = found.filter((item) => item.kind === row.kind);
      return here.length ? here.map((item) => this.present(row, item)) : [this.absent(row)];
    });
    return h("table", { "aria-label": "Weights" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
  }

  present(row, item) {
    const hash = h("code", { textContent: item.sha256.slice(0, 12), title: item.sha256 });
    const cells = [
      [h("strong", { textContent: row.title }), h("br"), item.file],
      [megabytes(item.megabytes)],
      [hash, item.as_published ? " as published" : ""],
      [item.licence],
      [h("span", { className: "f2d-good", textContent: "It is there." })],
    ];
    return h("tr", { "data-kind": row.kind, "data-here": "true" }, cells.map((cell) => h("td", {}, cell)));
  }

  absent(row) {
    const get = h("button", { type: "button", textContent: row.fetchable ? "Download …" : "How to get it …", "aria-label": `Get ${row.file}` });
    get.onclick = async () => {
      await offer([row.kind], false);
      await this.examine();
    };
    const cells = [
      [h("span", { textContent: row.title }), h("br"), row.file],
      [megabytes(row.megabytes)],
      [row.sha256 ? h("code", { textContent: row.sha256.slice(0, 12), title: row.sha256 }) : "none published"],
      [row.licence, h("br"), ...linked(row.where)],
      [get],
    ];
    return h("tr", { "data-kind": row.kind, className: "f2d-quiet" }, cells.map((cell) => h("td", {}, cell)));
  }

  copyReport() {
    return copied(this.report, this.body);
  }
}

/** The report on the node, once it ran. */
function showReport(node) {
  const text = h("pre", { textContent: "Run this node; the report appears here.", tabIndex: 0, "aria-label": "The report" });
  const body = h("div", { className: "f2d-report" }, text);
  const copy = h("button", { type: "button", textContent: "Copy report", disabled: true, onclick: () => copied(text.textContent, body) });
  const panel = h("div", { role: "group", "aria-label": "Doctor" }, h("div", { className: "f2d-bar" }, copy), body);
  addPanel(node, "doctor_report", panel, NODE_PX);
  after(node, "onExecuted", (output) => {
    if (!output?.text) return;
    text.textContent = [output.text].flat().join("");
    copy.disabled = false;
    fit(node);
  });
}

async function copied(report, body) {
  try {
    await navigator.clipboard.writeText(report);
    toast("success", "Face2Diffusion", "The report is in the clipboard.");
  } catch {
    body.prepend(selected(report)); // the page may not write to the clipboard: the user can
  }
}

/** The report as a field whose text is selected, for Ctrl+C. */
function selected(text) {
  const area = h("textarea", { value: text, readOnly: true, rows: 8, "aria-label": "The report, to be copied" });
  requestAnimationFrame(() => {
    area.focus();
    area.select();
  });
  return area;
}

function beforeWeights(text) {
  return text.slice(0, text.indexOf("\nWeights, looked for"));
}

export const doctor = {
  commands: [
    {
      id: "Face2Diffusion.Doctor",
      label: "Face2Diffusion: Doctor",
      icon: "pi pi-heart",
      function: () => app.extensionManager.command.execute(`Workspace.ToggleBottomPanelTab.${TAB}`),
    },
  ],
  menuCommands: [{ path: ["Extensions", "Face2Diffusion"], commands: ["Face2Diffusion.Doctor"] }],
  nodeCreated(node) {
    if (node.comfyClass === NODE) showReport(node);
  },
  bottomPanelTabs: [{ id: TAB, title: "Doctor", type: "custom", render: (element) => new Doctor(element) }],
};
