// A question to the user before something is lost.

import { setText } from "./dom.js";

/** Whether the user says yes; the focus begins on no. */
export async function confirmed(question, no, yes) {
  const dialog = document.getElementById("confirm");
  if (dialog.open) return false; // the browser's own buttons work beside an open question
  setText(document.getElementById("confirm-text"), question);
  setText(dialog.querySelector("[value=no]"), no);
  setText(dialog.querySelector("[value=yes]"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}
