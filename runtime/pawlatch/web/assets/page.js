"use strict";
// Keeps the state fresh, and the picture where a stream is no help. The page says and does everything without it.
const now = document.getElementById("now");
const live = document.getElementById("live");
const EVERY_MS = 2000;
let streams = true;

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/now", { redirect: "manual", cache: "no-store" });
    if (answer.type === "opaqueredirect") return location.reload(); // logged out
    if (!answer.ok) throw new Error(String(answer.status));
    const text = await answer.text();
    if (text !== now.dataset.was && !now.contains(document.activeElement)) now.innerHTML = now.dataset.was = text;
    now.classList.remove("lost");
  } catch {
    now.classList.add("lost"); // what is shown may be old
  }
}

function look() { // a phone in a pocket watches nothing
  if (document.hidden) live.src = "/paw.svg";
  else live.src = streams ? "/live.mjpg" : "/live.jpg?" + Date.now();
}

live.addEventListener("error", () => {
  streams = false;
  setTimeout(look, EVERY_MS);
});
live.addEventListener("load", () => {
  if (!streams && !document.hidden) setTimeout(look, EVERY_MS);
});
document.addEventListener("visibilitychange", () => { streams = true; look(); refresh(); });
setInterval(refresh, EVERY_MS);
