/* The node's network: WiFi station, pings that keep the air busy, UDP to the aggregator. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"
#include "esp_wifi.h"

/* Begins the network stack and opens the UDP socket that network_send sends with; to be called first, once.
 * ESP_ERR_INVALID_ARG: CONFIG_CSI_NODE_AGGREGATOR is no address. ESP_ERR_NO_MEM: no socket. Either is logged. */
esp_err_t network_open(void);

/* A temporal_send_t: one packet, one datagram. */
esp_err_t network_send(const uint8_t *packet, size_t length, void *unused);

/* Connects, now and whenever the connection is lost, and calls `csi` in the WiFi task with what the driver measures of
 * the access point's packets: borrowed during the call, and the number of the connection, from 1. */
typedef void (*network_csi_t)(const wifi_csi_info_t *info, uint32_t connection);
esp_err_t network_start(network_csi_t csi);

#endif
