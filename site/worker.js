// The planner beside the page, so that the page never stops while it plans. Questions are answered in order.

import { startPlanner } from "./planner.js";

const base = new URL("./", import.meta.url).href;

async function read(name) {
  const reply = await fetch(new URL(name, base));
  if (!reply.ok) throw new Error(`${name}: ${reply.status}`);
  return new Uint8Array(await reply.arrayBuffer());
}

let planner = startPlanner(base, read);
planner.catch(() => {}); // each question says it
// Pyodide never answers where its own files do not come.
onunhandledrejection = ({ reason }) => postMessage({ problem: String(reason?.message ?? reason) });

onmessage = async ({ data: { id, name, values } }) => {
  try {
    const { ask } = await planner;
    postMessage({ id, answer: ask(name, ...values) });
  } catch (error) {
    let problem = String(error.message ?? error);
    if (error instanceof RangeError || error.pyodide_fatal_error) {
      // WebAssembly's stack or memory was not enough; that Python cannot go on, a new one can.
      problem = `this is too large or too deeply nested for a browser (${problem})`;
      planner = startPlanner(base, read);
      planner.catch(() => {});
    }
    postMessage({ id, problem });
  }
};
