/* A stub to compile firmware/ without ESP-IDF: what is used of <sdkconfig.h>, and nothing behind it. */
#ifndef STUB_SDKCONFIG_H
#define STUB_SDKCONFIG_H

#include "../host/include/sdkconfig.h"

#define CONFIG_CSI_NODE_WIFI_SSID "network"
#define CONFIG_CSI_NODE_WIFI_PASSWORD ""
#define CONFIG_CSI_NODE_AGGREGATOR "192.168.1.10"
#define CONFIG_CSI_NODE_PORT 5005
#define CONFIG_CSI_NODE_ID 1
#define CONFIG_CSI_NODE_PING_MS 10

#endif
