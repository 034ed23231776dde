// Questions to the user: one window above everything, which the Escape key closes.
import { h } from "./common.mjs";

/**
 * Show `content` under a title; resolves with the value of the button that was pressed, or null when it was closed.
 * buttons: [{label, value, main, act}]; act(dialog) is called instead of closing. ready(dialog) is called when it stands.
 */
export function openDialog({ title, content, buttons, ready }) {
  const opener = document.activeElement;
  const heading = h("h2", { textContent: title, id: "f2d-dialog-title" });
  const bar = h("div", { className: "f2d-bar f2d-answers" });
  const dialog = h("dialog", { className: "f2d-dialog", "aria-labelledby": heading.id }, heading, content, bar);
  for (const { label, value, main, act } of buttons) {
    const onclick = act ? () => act(dialog) : () => dialog.close(value);
    bar.append(h("button", { type: "button", textContent: label, className: main ? "f2d-main" : "", onclick }));
  }
  dialog.addEventListener("keydown", (event) => event.stopPropagation()); // the canvas would take Delete and others
  document.body.append(dialog);
  dialog.showModal();
  ready?.(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      opener?.focus?.();
      resolve(dialog.returnValue || null);
    });
  });
}

/** Ask whether to do it; the safe answer has the focus. */
export async function confirmed(title, text, yes) {
  const buttons = [{ label: "Cancel", value: "" }, { label: yes, value: "yes", main: true }];
  return (await openDialog({ title, content: h("p", { textContent: text }), buttons })) === "yes";
}

/** A label with its field. */
export function field(label, input) {
  return h("label", { className: "f2d-field" }, h("span", { textContent: label }), input);
}

/**
 * Ask for the values of fields: {name: element}. submit(values) is called on OK; what it throws is shown, and the
 * dialog stays. Resolves with what submit gave, or null.
 */
export async function askFor({ title, note, fields, yes, submit }) {
  let result = null;
  const problem = h("p", { className: "f2d-problem", role: "alert" });
  const form = h("form", { method: "dialog" }, note ? h("p", { textContent: note }) : null, ...fields, problem);
  const send = async (dialog) => {
    problem.textContent = "";
    try {
      result = await submit();
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form.closest("dialog"));
  });
  const ready = (dialog) => {
    const first = dialog.querySelector("input, select");
    first?.focus();
    first?.select?.();
  };
  await openDialog({ title, content: form, buttons: [{ label: "Cancel", value: "" }, { label: yes, main: true, act: send }], ready });
  return result;
}
