/* A libnvidia-ml.so.1 for tests: the functions that the probe calls, driven by environment variables.
 *
 * FAKE_NVML_INIT       error code of initialising (0)
 * FAKE_NVML_DRIVER     driver version (580.95.05)
 * FAKE_NVML_CUDA       driver CUDA version as NVML numbers it (13000)
 * FAKE_NVML_CUDA_CODE  error code of asking for it (0); 12 is "libcuda is missing"
 * FAKE_NVML_GPUS       `name;8.9;bytes;code|...`: bytes 0 is NOT_SUPPORTED, code refuses the handle
 * FAKE_NVML_MIG        index of a GPU with MIG on
 * FAKE_NVML_SLEEP_MS   wait that long in initialising
 * FAKE_NVML_CRASH      `init`, or the index of the GPU that crashes the process
 * FAKE_NVML_CALLS      file to which the name of each initialising call is appended
 *
 * -DOLD_SYMBOLS leaves out what old drivers do not have (the _v2 symbols and nvmlInitWithFlags).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3 };

typedef struct { char name[96]; int major, minor, code; unsigned long long bytes; } gpu_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, pci_device, pci_subsystem;
    char bus_id[32];
} pci_t;

static int ready = 0;

static const char *text(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

static int number(const char *name, int otherwise) { return atoi(text(name, "")) ? atoi(text(name, "")) : otherwise; }

static int gpus(gpu_t *out, int most) {
    char all[8192], *rest = all, *row;
    int count = 0;
    snprintf(all, sizeof all, "%s", text("FAKE_NVML_GPUS", ""));
    while (count < most && (row = strsep(&rest, "|")) != NULL) {
        char *name = strsep(&row, ";"), *capability = strsep(&row, ";");
        char *bytes = strsep(&row, ";"), *code = strsep(&row, ";");
        gpu_t *gpu = &out[count];
        if (!name || !*name) continue;
        memset(gpu, 0, sizeof *gpu);
        snprintf(gpu->name, sizeof gpu->name, "%s", name);
        if (capability) sscanf(capability, "%d.%d", &gpu->major, &gpu->minor);
        gpu->bytes = bytes ? strtoull(bytes, NULL, 10) : 0;
        gpu->code = code ? atoi(code) : 0;
        count++;
    }
    return count;
}

static int find(void *handle, gpu_t *gpu) {
    gpu_t all[64];
    long index = (long)handle - 1;
    if (index < 0 || index >= gpus(all, 64)) return INVALID;
    *gpu = all[index];
    return OK;
}

static int start(const char *name) {
    int wait = number("FAKE_NVML_SLEEP_MS", 0), code = number("FAKE_NVML_INIT", 0);
    const char *calls = getenv("FAKE_NVML_CALLS");
    if (calls) {
        FILE *file = fopen(calls, "a");
        if (file) { fprintf(file, "%s\n", name); fclose(file); }
    }
    if (wait) {
        struct timespec pause = { wait / 1000, (wait % 1000) * 1000000L };
        nanosleep(&pause, NULL);
    }
    if (!strcmp(text("FAKE_NVML_CRASH", ""), "init")) raise(SIGSEGV);
    ready = code == OK;
    return code;
}

#ifdef OLD_SYMBOLS
int nvmlInit(void) { return start("nvmlInit"); }
int nvmlDeviceGetCount(unsigned *count) {
#else
int nvmlInitWithFlags(unsigned flags) { (void)flags; return start("nvmlInitWithFlags"); }
int nvmlInit_v2(void) { return start("nvmlInit_v2"); }
int nvmlDeviceGetCount_v2(unsigned *count) {
#endif
    gpu_t all[64];
    if (!ready) return UNINITIALIZED;
    *count = (unsigned)gpus(all, 64);
    return OK;
}

int nvmlShutdown(void) { ready = 0; return OK; }

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    if (!ready) return UNINITIALIZED;
    snprintf(out, size, "%s", text("FAKE_NVML_DRIVER", "580.95.05"));
    return OK;
}

static int cuda(int *out) {
    int code = number("FAKE_NVML_CUDA_CODE", 0);
    if (code == OK) *out = number("FAKE_NVML_CUDA", 13000);
    return code;
}

int nvmlSystemGetCudaDriverVersion(int *out) { return cuda(out); }
#ifndef OLD_SYMBOLS
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return cuda(out); }
#endif

#ifdef OLD_SYMBOLS
int nvmlDeviceGetHandleByIndex(unsigned index, void **handle) {
#else
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
#endif
    gpu_t gpu;
    char here[16];
    snprintf(here, sizeof here, "%u", index);
    if (!strcmp(text("FAKE_NVML_CRASH", ""), here)) raise(SIGSEGV);
    if (find((void *)((long)index + 1), &gpu)) return INVALID;
    if (gpu.code) return gpu.code;
    *handle = (void *)((long)index + 1);
    return OK;
}

int nvmlDeviceGetName(void *handle, char *out, unsigned size) {
    gpu_t gpu;
    int code = find(handle, &gpu);
    if (code == OK) snprintf(out, size, "%s", gpu.name);
    return code;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    gpu_t gpu;
    int code = find(handle, &gpu);
    if (code != OK) return code;
    if (!gpu.major) return NOT_SUPPORTED;
    *major = gpu.major;
    *minor = gpu.minor;
    return OK;
}

int nvmlDeviceGetUUID(void *handle, char *out, unsigned size) {
    snprintf(out, size, "GPU-00000000-0000-0000-0000-%012ld", (long)handle - 1);
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *out) {
    gpu_t gpu;
    int code = find(handle, &gpu);
    if (code != OK) return code;
    if (!gpu.bytes) return NOT_SUPPORTED;
    out->total = out->free = gpu.bytes;
    out->used = 0;
    return OK;
}

int nvmlDeviceGetPciInfo_v3(void *handle, pci_t *out) {
    memset(out, 0, sizeof *out);
    out->bus = (unsigned)(long)handle;
    out->pci_device = 0x268410de;
    snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);
    return OK;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    const char *split = getenv("FAKE_NVML_MIG");
    if (!split || atol(split) != (long)handle - 1) return NOT_SUPPORTED;
    *current = *pending = 1;
    return OK;
}

const char *nvmlErrorString(int code) {
    switch (code) {
        case 0: return "Success";
        case 3: return "Not Supported";
        case 4: return "Insufficient Permissions";
        case 9: return "Driver Not Loaded";
        case 12: return "Library Not Found";
        case 13: return "Function Not Found";
        case 15: return "GPU is lost";
        case 18: return "Driver/library version mismatch";
        default: return "Unknown Error";
    }
}
