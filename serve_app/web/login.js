// Trades a key for a session, then loads what was asked for.

const message = document.getElementById("login-message");

function say(text, bad = false) {
  message.textContent = text;
  message.classList.toggle("bad", bad);
}

document.getElementById("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = document.getElementById("key");
  const button = event.target.querySelector("button");
  button.disabled = true;
  say("Logging in…");
  try {
    const response = await fetch("v1/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ key: field.value.trim() }),
    }).catch(() => null);
    if (response?.ok) {
      // This page stands in for the one that was asked for, unless it was asked for itself.
      if (location.pathname.endsWith("/login")) location.replace("./");
      else location.reload();
      return;
    }
    const answer = await response?.json().catch(() => null);
    say(answer?.detail ?? "The server does not answer: try again.", true);
    field.select();
  } finally {
    button.disabled = false;
  }
});
