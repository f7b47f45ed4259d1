// Python and torchinstall, started once; `ask` calls a function of entry.py. Runs in a worker and in Node.

/**
 * @param {string} base where the page's files are: a URL that ends in a slash, or in Node a folder's path
 * @param {(name: string) => Promise<Uint8Array>} read one of them
 * @param {(step: string) => void} tell what is being done
 */
export async function startPlanner(base, read, tell = () => {}) {
  tell("loading Python");
  const { loadPyodide } = await import(`${base}pyodide/pyodide.mjs`);
  const [python, archive] = await Promise.all([loadPyodide({ indexURL: `${base}pyodide/` }), read("packages.zip")]);
  tell("reading the tables");
  const folder = python.runPython("import site; site.getsitepackages()[0]");
  python.unpackArchive(archive, "zip", { extractDir: folder });
  const entry = python.pyimport("torchinstall_site");
  return {
    ask(name, ...values) {
      const given = values.map((value) => (Array.isArray(value) ? python.toPy(value) : value));
      return JSON.parse(entry[name](...given));
    },
  };
}
