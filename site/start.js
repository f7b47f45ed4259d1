// Says why there will be no answer where the page itself cannot start: it is no module, so every browser runs it.

"use strict";

document.documentElement.className = "scripted";

addEventListener("error", function (event) {
  if (!event.target || event.target.tagName !== "SCRIPT") return;
  var text = location.protocol === "file:"
    ? "Browsers start no planner from a file: type python -m http.server in the page's folder and open what it says."
    : "A part of this page did not load: look at the connection and load it again.";
  addEventListener("DOMContentLoaded", function () {
    var state = document.getElementById("state");
    state.className = "state bad";
    state.textContent = text;
  });
}, true);
