// Python and torchinstall, started once; `ask` calls a function of entry.py. Runs in a worker and in Node.

/** Bytecode without the columns of each instruction is smaller, and nobody reads a traceback here. */
const ENVIRONMENT = { HOME: "/home/pyodide", PYTHONNODEBUGRANGES: "1" };

/**
 * @param {string} base where the page's files are: a URL that ends in a slash
 * @param {(name: string) => Promise<Uint8Array>} read one of them
 * @param {string} home the same place as Pyodide takes it: in Node a path, not a URL
 */
export async function startPlanner(base, read, home = base) {
  const { loadPyodide } = await import(`${base}pyodide/pyodide.mjs`);
  const [python, archive] = await Promise.all([
    loadPyodide({ indexURL: `${home}pyodide/`, env: ENVIRONMENT }),
    read("packages.zip"),
  ]);
  const folder = python.runPython("import site; site.getsitepackages()[0]");
  python.unpackArchive(archive, "zip", { extractDir: folder });
  const entry = python.pyimport("torchinstall_site");
  return {
    python,
    ask(name, ...values) {
      const given = values.map((value) => (Array.isArray(value) ? python.toPy(value) : value));
      return JSON.parse(entry[name](...given));
    },
  };
}
