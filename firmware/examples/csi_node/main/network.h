/* The node's network: WiFi station, pings that keep the air busy, UDP to the aggregator. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"
#include "esp_wifi.h"

/* Opens the UDP socket that network_send sends with. */
esp_err_t network_open(void);

/* A temporal_send_t: one packet, one datagram. */
esp_err_t network_send(const uint8_t *packet, size_t length, void *unused);

/* Connects, now and whenever the connection is lost, and calls `csi` in the WiFi task with what the driver measures of
 * the access point's packets. */
esp_err_t network_start(void (*csi)(const wifi_csi_info_t *info));

#endif
