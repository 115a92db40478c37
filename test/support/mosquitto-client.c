/*
 * libmosquitto, as an application uses it.
 *
 *   mosquitto-client PORT VERSION qos            publishes to itself at QoS 0, 1, 2; prints what comes
 *   mosquitto-client PORT VERSION retained       a retained message, and what a new subscription gets
 *   mosquitto-client PORT VERSION will           connects with a will, says so, and is gone without a word
 *   mosquitto-client PORT VERSION leave|return   a session that lasts: subscribes and goes; comes and prints 20 messages
 *   mosquitto-client PORT VERSION offline COUNT  publishes at QoS 2 before standard input says go, and waits for every
 *                                                answer; comes back by itself
 */
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mosquitto *client;
static volatile int connected, lost, subscribed, sent, arrived;

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

static void until(volatile int *value, int least, const char *what) {
	for (int i = 0; *value < least; i++) {
		if (i > 3000) {
			fprintf(stderr, "%s: %d of %d\n", what, *value, least);
			exit(1);
		}
		usleep(10000);
	}
}

static void dial(const char *port, int version, const char *id, int clean, int with_will) {
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

int main(int count, char **words) {
	if (count < 4) return 2;
	const char *port = words[1], *what = words[3];
	int version = atoi(words[2]);
	if (strcmp(what, "qos") == 0) {
		dial(port, version, "m-qos", 1, 0);
		subscribe("c/qos/#");
		publish("c/qos/0", "hello", 0, 0);
		publish("c/qos/1", "hello", 1, 0);
		publish("c/qos/2", "hello", 2, 0);
		until(&sent, 3, "sent");
		until(&arrived, 3, "arrived");
	} else if (strcmp(what, "retained") == 0) {
		dial(port, version, "m-retained", 1, 0);
		publish("c/kept", "kept", 1, 1);
		until(&sent, 1, "sent");
		subscribe("c/kept");
		until(&arrived, 1, "arrived");
		publish("c/kept", "", 1, 1);
		until(&sent, 2, "sent");
		until(&arrived, 2, "arrived");
	} else if (strcmp(what, "will") == 0) {
		dial(port, version, "m-will", 1, 1);
		printf("connected\n");
		fflush(stdout);
		_exit(0);
	} else if (strcmp(what, "leave") == 0) {
		dial(port, version, "m-lasting", 0, 0);
		subscribe("c/away");
	} else if (strcmp(what, "return") == 0) {
		dial(port, version, "m-lasting", 0, 0);
		until(&arrived, 20, "arrived");
	} else if (strcmp(what, "offline") == 0 && count == 5) {
		char payload[32];
		int total = atoi(words[4]);
		dial(port, version, "m-offline", 0, 0);
		printf("connected\n");
		fflush(stdout);
		getchar();
		for (int i = 0; i < total; i++) {
			snprintf(payload, sizeof payload, "%d", i);
			publish("c/offline", payload, 2, 0);
		}
		printf("buffered\n");
		fflush(stdout);
		until(&sent, total, "sent");
		printf("lost %d sent %d\n", lost > 0, sent);
	} else {
		return 2;
	}
	mosquitto_disconnect(client);
	mosquitto_loop_stop(client, 0);
	mosquitto_destroy(client);
	return 0;
}
