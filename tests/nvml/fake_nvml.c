/* libnvidia-ml.so.1 for tests: answers from the file `recording` beside it, read anew at each call, so that a
 * test can change what the driver says while a node runs. A key that is not there is NVML_ERROR_NOT_SUPPORTED.
 *
 *   driver 570.148.08      cuda 12080      gpus 8
 *   0.name Tesla V100      0.uuid GPU-…    0.minor 0   0.bus 26   0.memory_mib 32768   0.numa 0
 *   0.nvlinks 1 2 3 3      (of each link the GPU at its other end, or `switch`)   0.level.1 20
 *   hang 1 (no call for the number of GPUs comes back while it is there)
 *   0.mig 1   0.mig.0.name … uuid gi ci memory_mib      0.processes 4711     0.lost 1   0.temperature 33
 *
 * Events are lines of the file `events` beside it: GPU XID [GPU-INSTANCE]. The declarations are written
 * from the NVML API reference, apart from those of src/devices/nvml_abi.h. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, NO_DRIVER = 9, TIMEOUT = 10, LOST = 15 };
typedef void *device_t; /* (GPU + 1) << 8 | slice + 1, slice 0: the GPU itself */

static void path_of(const char *name, char *path, size_t size) {
  Dl_info info;
  dladdr((void *)&path_of, &info);
  snprintf(path, size, "%s", info.dli_fname);
  char *slash = strrchr(path, '/');
  snprintf(slash + 1, size - (size_t)(slash + 1 - path), "%s", name);
}

static int look_up(const char *key, char *value, size_t size) {
  char path[4096], line[1024];
  path_of("recording", path, sizeof path);
  FILE *file = fopen(path, "r");
  int found = 0;
  while (file && !found && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    const size_t length = strlen(key);
    found = strncmp(line, key, length) == 0 && line[length] == ' ';
    if (found) snprintf(value, size, "%s", line + length + 1);
  }
  if (file) fclose(file);
  return found;
}

static int gpu_of(device_t device) { return (int)((uintptr_t)device >> 8) - 1; }
static int slice_of(device_t device) { return (int)((uintptr_t)device & 255) - 1; }

static int text_of(device_t device, const char *name, char *value, size_t size) {
  char key[128];
  if (slice_of(device) >= 0)
    snprintf(key, sizeof key, "%d.mig.%d.%s", gpu_of(device), slice_of(device), name);
  else
    snprintf(key, sizeof key, "%d.%s", gpu_of(device), name);
  return look_up(key, value, size);
}

static int is_lost(device_t device) {
  char value[8];
  return text_of(device, "lost", value, sizeof value);
}

static int number_of(device_t device, const char *name, unsigned *number) {
  char value[64];
  if (is_lost(device)) return LOST;
  if (!text_of(device, name, value, sizeof value)) return NOT_SUPPORTED;
  *number = (unsigned)strtoul(value, NULL, 10);
  return OK;
}

static int copy_text(device_t device, const char *name, char *text, unsigned size) {
  char value[256];
  if (!text_of(device, name, value, sizeof value)) return NOT_SUPPORTED;
  if (strlen(value) + 1 > size) return TOO_SMALL;
  memcpy(text, value, strlen(value) + 1);
  return OK;
}

int nvmlInit_v2(void) {
  char value[8];
  return look_up("gpus", value, sizeof value) ? OK : NO_DRIVER;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
  return code == NO_DRIVER ? "Driver Not Loaded" : code == LOST ? "GPU is lost" : "Not Supported";
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
  return look_up("driver", text, size) ? OK : NOT_SUPPORTED;
}
int nvmlSystemGetCudaDriverVersion(int *version) {
  char value[32];
  if (!look_up("cuda", value, sizeof value)) return NOT_SUPPORTED;
  *version = atoi(value);
  return OK;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
  char value[32];
  while (look_up("hang", value, sizeof value)) nanosleep(&(struct timespec){0, 20000000}, NULL);
  if (!look_up("gpus", value, sizeof value)) return NO_DRIVER;
  *count = (unsigned)atoi(value);
  return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device) {
  *device = (device_t)(uintptr_t)((index + 1) << 8);
  return OK;
}
int nvmlDeviceGetName(device_t device, char *text, unsigned size) { return copy_text(device, "name", text, size); }
int nvmlDeviceGetUUID(device_t device, char *text, unsigned size) { return copy_text(device, "uuid", text, size); }
int nvmlDeviceGetMinorNumber(device_t device, unsigned *minor) { return number_of(device, "minor", minor); }

struct pci {
  char legacy[16];
  unsigned domain, bus, device, id, subsystem;
  char bus_id[32];
};
int nvmlDeviceGetPciInfo_v3(device_t device, struct pci *pci) {
  memset(pci, 0, sizeof *pci);
  const int code = number_of(device, "bus", &pci->bus);
  snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:%02X.0", 0u, pci->bus & 255, 0u);
  return code;
}

struct memory {
  unsigned long long total, free, used;
};
int nvmlDeviceGetMemoryInfo(device_t device, struct memory *memory) {
  unsigned total = 0, used = 0;
  const int code = number_of(device, "memory_mib", &total);
  (void)number_of(device, "used_mib", &used);
  memory->total = (unsigned long long)total << 20;
  memory->used = (unsigned long long)used << 20;
  memory->free = memory->total - memory->used;
  return code;
}

int nvmlDeviceGetMemoryAffinity(device_t device, unsigned size, unsigned long *set, unsigned scope) {
  unsigned node = 0;
  const int code = number_of(device, "numa", &node);
  memset(set, 0, size * sizeof *set);
  if (code == OK && scope == 0) set[node / 64] = 1ul << node % 64;
  return code;
}

int nvmlDeviceGetMigMode(device_t device, unsigned *now, unsigned *pending) {
  const int code = number_of(device, "mig", now);
  *pending = *now;
  return code;
}
int nvmlDeviceGetMaxMigDeviceCount(device_t device, unsigned *count) {
  (void)device;
  *count = 7;
  return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(device_t device, unsigned index, device_t *slice) {
  char value[128];
  *slice = (device_t)((uintptr_t)device | (index + 1));
  return text_of(*slice, "uuid", value, sizeof value) ? OK : 6; /* NVML_ERROR_NOT_FOUND */
}
int nvmlDeviceGetGpuInstanceId(device_t slice, unsigned *id) { return number_of(slice, "gi", id); }
int nvmlDeviceGetComputeInstanceId(device_t slice, unsigned *id) { return number_of(slice, "ci", id); }

struct attributes {
  unsigned counts[8];
  unsigned long long memory_mib;
};
int nvmlDeviceGetAttributes_v2(device_t slice, struct attributes *attributes) {
  unsigned mib = 0;
  memset(attributes, 0, sizeof *attributes);
  const int code = slice_of(slice) < 0 ? INVALID : number_of(slice, "memory_mib", &mib);
  attributes->memory_mib = mib;
  return code;
}

struct process {
  unsigned pid;
  unsigned long long memory;
  unsigned gi, ci;
};
static int processes(device_t device, const char *name, unsigned *count, struct process *list) {
  char value[512];
  unsigned found = 0;
  if (is_lost(device)) return LOST;
  if (text_of(device, name, value, sizeof value))
    for (char *word = strtok(value, " "); word; word = strtok(NULL, " "), ++found)
      if (found < *count) list[found] = (struct process){(unsigned)atoi(word), ~0ull, ~0u, ~0u};
  const int code = found > *count ? TOO_SMALL : OK;
  *count = found;
  return code;
}
int nvmlDeviceGetComputeRunningProcesses_v3(device_t device, unsigned *count, struct process *list) {
  return processes(device, "processes", count, list);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t device, unsigned *count, struct process *list) {
  return processes(device, "graphics", count, list);
}

/* What is at the end of a link: a GPU's number, -1 a switch, -2 nothing. */
static int link_end(device_t device, unsigned link) {
  char value[512];
  if (!text_of(device, "nvlinks", value, sizeof value)) return -2;
  char *word = strtok(value, " ");
  while (word && link-- > 0) word = strtok(NULL, " ");
  return !word ? -2 : strcmp(word, "switch") == 0 ? -1 : atoi(word);
}
int nvmlDeviceGetNvLinkState(device_t device, unsigned link, unsigned *active) {
  *active = link_end(device, link) > -2;
  return *active ? OK : INVALID;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(device_t device, unsigned link, struct pci *pci) {
  const int end = link_end(device, link);
  if (end >= 0) return nvmlDeviceGetPciInfo_v3((device_t)(uintptr_t)((unsigned)(end + 1) << 8), pci);
  memset(pci, 0, sizeof *pci);
  pci->bus = 0xc0 + link % 6;
  return OK;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(device_t device, unsigned link, int *type) {
  *type = link_end(device, link) == -1 ? 2 : 0;
  return OK;
}
int nvmlDeviceGetTopologyCommonAncestor(device_t a, device_t b, unsigned *level) {
  char key[64];
  snprintf(key, sizeof key, "level.%d", gpu_of(b));
  if (number_of(a, key, level) != OK) *level = 50;
  return OK;
}

int nvmlDeviceGetTemperature(device_t device, unsigned sensor, unsigned *value) {
  return sensor == 0 ? number_of(device, "temperature", value) : INVALID;
}
int nvmlDeviceGetPowerUsage(device_t device, unsigned *value) { return number_of(device, "power_mw", value); }
int nvmlDeviceGetEnforcedPowerLimit(device_t device, unsigned *value) {
  return number_of(device, "power_limit_mw", value);
}
int nvmlDeviceGetClockInfo(device_t device, unsigned type, unsigned *value) {
  return number_of(device, type == 1 ? "sm_clock" : "memory_clock", value);
}
int nvmlDeviceGetTotalEccErrors(device_t device, unsigned type, unsigned counter, unsigned long long *value) {
  unsigned errors = 0;
  const int code = type == 1 && counter == 0 ? number_of(device, "ecc_uncorrected", &errors) : INVALID;
  *value = errors;
  return code;
}

int nvmlEventSetCreate(void **set) {
  *set = calloc(1, sizeof(long)); /* how far `events` has been read */
  return OK;
}
int nvmlEventSetFree(void *set) {
  free(set);
  return OK;
}
int nvmlDeviceRegisterEvents(device_t device, unsigned long long types, void *set) {
  (void)device, (void)set;
  return types == 8 ? OK : NOT_SUPPORTED;
}
struct event {
  device_t device;
  unsigned long long type, data;
  unsigned gi, ci;
};
int nvmlEventSetWait_v2(void *set, struct event *event, unsigned time_ms) {
  char path[4096];
  path_of("events", path, sizeof path);
  for (unsigned waited = 0; waited <= time_ms; waited += 20) {
    char line[128];
    FILE *file = fopen(path, "r");
    if (file) {
      fseek(file, *(long *)set, SEEK_SET);
      unsigned gpu = 0, xid = 0, gi = ~0u;
      const int whole = fgets(line, sizeof line, file) && strchr(line, '\n');
      if (whole) *(long *)set = ftell(file);
      fclose(file);
      if (whole && sscanf(line, "%u %u %u", &gpu, &xid, &gi) >= 2) {
        *event = (struct event){(device_t)(uintptr_t)((gpu + 1) << 8), 8, xid, gi, ~0u};
        return OK;
      }
    }
    nanosleep(&(struct timespec){0, 20000000}, NULL);
  }
  return TIMEOUT;
}
