/*
 * libmosquitto, as an application uses it.
 * What it does by its words: client-program.h.
 */
#include <mosquitto.h>
#include <mqtt_protocol.h>

#define PREFIX "m-"
#define OFFLINE_QOS 2
#include "client-program.h"

static struct mosquitto *client;
static volatile int subscribed;

static void on_connect(struct mosquitto *mosq, void *context, int code) {
	(void)mosq;
	(void)context;
	if (code == 0) connected++;
}

static void on_disconnect(struct mosquitto *mosq, void *context, int code) {
	(void)mosq;
	(void)context;
	if (code != 0) lost++;
}

static void on_message(struct mosquitto *mosq, void *context, const struct mosquitto_message *message) {
	(void)mosq;
	(void)context;
	printf("%s %d %d %.*s\n", message->topic, message->qos, message->retain, message->payloadlen, (char *)message->payload);
	fflush(stdout);
	arrived++;
}

static void on_subscribe(struct mosquitto *mosq, void *context, int id, int count, const int *granted) {
	(void)mosq;
	(void)context;
	(void)id;
	if (count == 1 && granted[0] == 2) subscribed++;
}

static void on_publish(struct mosquitto *mosq, void *context, int id) {
	(void)mosq;
	(void)context;
	(void)id;
	sent++;
}

static void dial(const char *port, const char *id, int clean, int with_will) {
	mosquitto_property *properties = NULL;
	mosquitto_lib_init();
	client = mosquitto_new(id, clean, NULL);
	mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, version);
	mosquitto_connect_callback_set(client, on_connect);
	mosquitto_disconnect_callback_set(client, on_disconnect);
	mosquitto_message_callback_set(client, on_message);
	mosquitto_subscribe_callback_set(client, on_subscribe);
	mosquitto_publish_callback_set(client, on_publish);
	mosquitto_reconnect_delay_set(client, 1, 1, 0);
	if (with_will) mosquitto_will_set(client, "c/will", 4, "gone", 1, 0);
	if (version == 5 && !clean)
		mosquitto_property_add_int32(&properties, MQTT_PROP_SESSION_EXPIRY_INTERVAL, 600);
	mosquitto_connect_bind_v5(client, "127.0.0.1", atoi(port), 20, NULL, properties);
	mosquitto_loop_start(client);
	until(&connected, 1, "connected");
}

static void publish(const char *topic, const char *payload, int qos, int retain) {
	int code = mosquitto_publish(client, NULL, topic, (int)strlen(payload), payload, qos, retain);
	if (code != MOSQ_ERR_SUCCESS && code != MOSQ_ERR_NO_CONN) {
		fprintf(stderr, "publish: %s\n", mosquitto_strerror(code));
		exit(1);
	}
}

static void subscribe(const char *filter) {
	mosquitto_subscribe(client, NULL, filter, 2);
	until(&subscribed, 1, "subscribed");
}

static void leave(void) {
	mosquitto_disconnect(client);
	mosquitto_loop_stop(client, 0);
	mosquitto_destroy(client);
}
