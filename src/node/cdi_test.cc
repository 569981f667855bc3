#include "node/cdi.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/files.h"
#include "node/gpu_units.h"

namespace loam::node {
namespace {

class CdiTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/loam-cdi-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { ASSERT_TRUE(remove_tree(folder_)); }
  void write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(write_file_atomic(folder_ + "/" + name, text, {.durable = false}));
  }

  std::string folder_;
};

// As nvidia-ctk writes it: a device by its index or UUID, what is common at the end.
constexpr const char* kYaml = R"(cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
    - path: /dev/dri/card1
    mounts: [{hostPath: /usr/share/a, containerPath: /usr/share/a}]
- name: "0:1"
  containerEdits: {deviceNodes: [{path: /dev/nvidia-caps/nvidia-cap84}]}
- name: all
  containerEdits: {deviceNodes: [{path: /dev/nvidia7}]}
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  deviceNodes:
  - path: /dev/nvidiactl
  - path: /dev/nvidia-uvm
  - path: /etc/passwd
  - {path: /dev/other, hostPath: /dev/mem}
  hooks:
  - {hookName: createContainer, path: /usr/bin/nvidia-cdi-hook, args: [nvidia-cdi-hook, update-ldcache]}
  mounts:
  - hostPath: /usr/lib64/libcuda.so.580.173.02
    containerPath: /usr/lib64/libcuda.so.580.173.02
    options: [ro, nosuid, nodev, bind]
  - {hostPath: /usr/bin/nvidia-smi, containerPath: /usr/bin/nvidia-smi}
  - {hostPath: relative, containerPath: /x}
)";

TEST_F(CdiTest, NodesAndFilesOfGpusAlone) {
  write("nvidia.yaml", kYaml);
  write("other.json", R"({"cdiVersion": "0.5.0", "kind": "vendor.com/nic", "devices": [{"name": "0",
        "containerEdits": {"deviceNodes": [{"path": "/dev/nic0"}]}}]})");
  write("README", "kind: nvidia.com/gpu");
  const auto cdi = read_cdi({folder_, folder_ + "/none"});
  ASSERT_TRUE(cdi) << cdi.error().text;
  EXPECT_EQ(cdi->files, std::vector<std::string>{folder_ + "/nvidia.yaml"});
  EXPECT_EQ(cdi->common, (std::vector<std::string>{"/dev/nvidiactl", "/dev/nvidia-uvm"}));
  EXPECT_EQ(cdi->nodes.size(), 2u);
  EXPECT_EQ(cdi->mounts.size(), 3u);

  devices::GpuInventory inventory;
  inventory.gpus = {{.index = 0, .uuid = "GPU-aaaaaaaa-1", .model = "A", .pci_bus_id = {}, .minor = 0},
                    {.index = 1, .uuid = "GPU-bbbbbbbb-1", .model = "A", .pci_bus_id = {}, .minor = 1}};
  auto units = gpu_units(inventory);
  add_cdi(*cdi, inventory, units);
  EXPECT_EQ(units[0].nodes, std::vector<std::string>{"/dev/nvidia0"});
  EXPECT_EQ(units[0].optional.back(), "/dev/dri/card1");
  EXPECT_EQ(units[1].optional.back(), "/dev/nvidia-modeset");  // nothing of the other's

  DriverFiles driver{.libraries = {{"/opt/libcuda.so.1", "libcuda.so.1"}}, .others = {}};
  add_cdi(*cdi, driver);
  ASSERT_EQ(driver.libraries.size(), 2u);
  EXPECT_EQ(driver.libraries[1].name, "libcuda.so.580.173.02");
  ASSERT_EQ(driver.others.size(), 2u);
  EXPECT_EQ(driver.others[0].to, "/usr/bin/nvidia-smi");
}

TEST_F(CdiTest, OtherFilesComeIntoEnvironmentsOfTheirOwnAlone) {
  write("nvidia-smi", "");
  write("libcuda.so.1", "");
  const DriverFiles driver{
      .libraries = {{folder_ + "/libcuda.so.1", "libcuda.so.1"}, {folder_ + "/gone.so.1", "gone.so.1"}},
      .others = {{folder_ + "/nvidia-smi", "/usr/bin/nvidia-smi"}, {folder_ + "/gone", "/run/gone"}}};
  api::AttemptPlan plan;
  plan.environment = {{"LD_LIBRARY_PATH", "/opt/lib"}};
  add_driver(driver, plan);
  ASSERT_EQ(plan.binds.size(), 1u);
  EXPECT_EQ(plan.binds[0].to, "/loam/nvidia/libcuda.so.1");
  EXPECT_FALSE(plan.binds[0].writable);
  EXPECT_EQ(plan.environment[0].second, "/loam/nvidia:/opt/lib");
  plan = {};
  plan.root = api::RootKind::tree;
  add_driver(driver, plan);
  ASSERT_EQ(plan.binds.size(), 2u);
  EXPECT_EQ(plan.binds[0].to, "/usr/bin/nvidia-smi");
}

TEST_F(CdiTest, JsonByUuid) {
  write("nvidia.json", R"({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [
        {"name": "GPU-aaaaaaaa-1", "containerEdits": {"deviceNodes": [{"path": "/dev/dri/renderD128"}]}}]})");
  const auto cdi = read_cdi({folder_});
  ASSERT_TRUE(cdi) << cdi.error().text;
  devices::GpuInventory inventory;
  inventory.gpus = {{.index = 4, .uuid = "GPU-aaaaaaaa-1", .model = "A", .pci_bus_id = {}, .minor = 0}};
  auto units = gpu_units(inventory);
  add_cdi(*cdi, inventory, units);
  EXPECT_EQ(units[0].optional.back(), "/dev/dri/renderD128");
}

TEST_F(CdiTest, AFileThatCannotBeReadIsNamed) {
  write("nvidia.yaml", "kind: nvidia.com/gpu\ndevices: [\n");
  const auto cdi = read_cdi({folder_});
  ASSERT_FALSE(cdi);
  EXPECT_TRUE(cdi.error().text.starts_with(folder_ + "/nvidia.yaml: ")) << cdi.error().text;
}

TEST(GpuUnits, AnXidOfASliceIsItsAlone) {
  devices::GpuInventory inventory;
  inventory.gpus = {{.index = 0, .uuid = "GPU-aaaaaaaa-1", .model = "A", .pci_bus_id = {}, .minor = 0, .mig = true}};
  inventory.gpus[0].slices = {{.uuid = "MIG-11111111-1", .model = "s", .gpu_instance = 1},
                              {.uuid = "MIG-22222222-1", .model = "s", .gpu_instance = 2}};
  const auto units = gpu_units(inventory);
  ASSERT_EQ(units.size(), 3u);
  EXPECT_EQ(units[1].parent, units[0].id);
  EXPECT_FALSE(units[1].unusable.empty());  // no node lets anybody in
  const auto hit = [&](Json event) { return units_of_xid(units, inventory, event); };
  EXPECT_EQ(hit(Json::object({{"xid", 94}, {"uuid", "GPU-aaaaaaaa-1"}, {"gpu_instance", 2}})),
            std::vector<std::string>{"MIG-22222222"});
  EXPECT_EQ(hit(Json::object({{"xid", 79}, {"uuid", "GPU-aaaaaaaa-1"}})).size(), 3u);
  EXPECT_TRUE(hit(Json::object({{"xid", 31}, {"uuid", "GPU-aaaaaaaa-1"}})).empty());
  EXPECT_TRUE(hit(Json::object({{"xid", 79}, {"uuid", "GPU-cccccccc-1"}})).empty());
}

}  // namespace
}  // namespace loam::node
