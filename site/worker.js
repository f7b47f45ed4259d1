// The planner beside the page, so that the page never stops while it plans. Questions are answered in order.

import { startPlanner } from "./planner.js";

const base = new URL("./", import.meta.url).href;

async function read(name) {
  const reply = await fetch(new URL(name, base));
  if (!reply.ok) throw new Error(`${name}: ${reply.status}`);
  return new Uint8Array(await reply.arrayBuffer());
}

const planner = startPlanner(base, read);

onmessage = async ({ data: { id, name, values } }) => {
  try {
    const { ask } = await planner;
    postMessage({ id, answer: ask(name, ...values) });
  } catch (error) {
    postMessage({ id, problem: String(error.message ?? error) });
  }
};
